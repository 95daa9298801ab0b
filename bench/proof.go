package bench

import "stockade/router/api"

// Proof is whether the units add up at the end of a run: what the cluster has, by its
// audits, against what its clients were told. Quantities are units, over all SKUs.
type Proof struct {
	OnHand int64 `json:"on_hand"` // there were to sell
	Sold   int64 `json:"sold"`    // reserved or confirmed at the end
	Over   int64 `json:"over"`    // promised beyond what there was
	Lost   int64 `json:"lost"`    // promised to a client, and not there
	// Duplicates are units that are held and nobody was promised, and requests with a
	// known key that got another reservation.
	Duplicates int64 `json:"duplicates"`
	// Stranded are units that are left of a SKU of which somebody was refused one who
	// asked after the last unit came back.
	Stranded   int64    `json:"stranded"`
	Unknown    int64    `json:"unknown"` // promised or not: outcomes that the driver does not know
	Repeats    int64    `json:"repeats"` // requests that were sent once more, to see
	Unbalanced []string `json:"unbalanced,omitempty"`
	Failed     string   `json:"failed,omitempty"` // why it could not be found out
}

// Holds tells whether all is as it must be.
func (p *Proof) Holds() bool {
	return p.Over == 0 && p.Lost == 0 && p.Duplicates == 0 && p.Stranded == 0 && len(p.Unbalanced) == 0 && p.Failed == ""
}

// add takes the account and the audit of one SKU.
func (p *Proof) add(a *account, audit *api.Audit) {
	held := audit.Reserved + audit.Committed
	promised := a.accepted.Load() - a.released.Load()
	unsure, unsureOff := a.unsure.Load(), a.unsureOff.Load()
	p.OnHand += audit.OnHand
	p.Sold += held
	p.Over += max(0, held-audit.OnHand, promised-unsureOff-audit.OnHand)
	p.Lost += max(0, promised-unsureOff-held, a.confirmed.Load()-audit.Committed)
	p.Duplicates += max(0, held-promised-unsure)
	p.Unknown += unsure + unsureOff
	if a.refusedSince() {
		p.Stranded += audit.Available
	}
	if !audit.Balanced {
		p.Unbalanced = append(p.Unbalanced, audit.SKU)
	}
}
