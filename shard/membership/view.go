package membership

import (
	"cmp"
	"slices"
	"time"
)

// State says whether a member is there, as far as is known.
type State string

// States.
const (
	Alive State = "alive"
	Left  State = "left" // it said goodbye
	Dead  State = "dead" // it does not answer
)

// Member is a node or a router as the gossip knows it.
type Member struct {
	Facts
	Gossip  string // the address of its gossip port
	State   State
	Since   time.Time // of the state, by this process's clock
	Started time.Time // by the member's own clock
	name    string
}

// Claim is a node's word that it leads a shard in a term.
type Claim struct {
	Shard uint16 `json:"s"`
	Term  uint64 `json:"t"`
	Node  string `json:"n"`
}

// View is the cluster at one moment. It does not change.
type View struct {
	Members []Member // nodes, then routers, in order of their ids
	Leaders []Claim  // the newest claim for each shard, in order of the shards
}

// Alive gives the members of a role that are there.
func (v *View) Alive(role Role) []Member {
	var all []Member
	for i := range v.Members {
		if v.Members[i].Role == role && v.Members[i].State == Alive {
			all = append(all, v.Members[i])
		}
	}
	return all
}

// Member finds a member by its role and id.
func (v *View) Member(role Role, id string) (Member, bool) {
	i, ok := v.find(role, id)
	if !ok {
		return Member{}, false
	}
	return v.Members[i], true
}

func (v *View) find(role Role, id string) (int, bool) {
	return slices.BinarySearchFunc(v.Members, Member{Facts: Facts{ID: id, Role: role}}, compareMembers)
}

func compareMembers(a, b Member) int {
	return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.ID, b.ID))
}

// with gives a view in which a member is as given, or nil if that is no news: the later
// start of an id counts, and what is heard of an earlier one is of no interest.
func (v *View) with(m Member) *View {
	i, ok := v.find(m.Role, m.ID)
	next := &View{Leaders: v.Leaders}
	switch old := v.at(i, ok); {
	case !ok:
		next.Members = slices.Insert(slices.Clone(v.Members), i, m)
	case m.Started.Before(old.Started), m == old:
		return nil
	default:
		if m.State == old.State && m.name == old.name {
			m.Since = old.Since
		}
		next.Members = slices.Clone(v.Members)
		next.Members[i] = m
	}
	return next
}

func (v *View) at(i int, ok bool) Member {
	if !ok {
		return Member{}
	}
	return v.Members[i]
}

// claimed gives a view with the claims that are newer than what it has, and those. The
// higher term counts: who leads in it has been elected by a majority.
func (v *View) claimed(claims []Claim) (next *View, fresh []Claim) {
	leaders := slices.Clone(v.Leaders)
	for _, c := range claims {
		i, ok := slices.BinarySearchFunc(leaders, c, func(a, b Claim) int { return cmp.Compare(a.Shard, b.Shard) })
		switch {
		case !ok:
			leaders = slices.Insert(leaders, i, c)
		case leaders[i].Term < c.Term:
			leaders[i] = c
		default:
			continue
		}
		fresh = append(fresh, c)
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	return &View{Members: v.Members, Leaders: leaders}, fresh
}
