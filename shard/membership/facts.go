package membership

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxFacts is how many bytes the facts of a member may take; memberlist panics beyond it.
const MaxFacts = 512

// Role says what a member is.
type Role string

// Roles.
const (
	Node   Role = "node"
	Router Role = "router"
)

// Facts is what a member tells about itself.
type Facts struct {
	ID   string `json:"i"`
	Role Role   `json:"r"`
	// Incarnation is a part of the identity of a node's data directory.
	Incarnation string `json:"n,omitempty"`
	// Fingerprint is of the settings that are fixed for the cluster, such as "16 shards,
	// formats 1.1.1.1". Members with another one are refused.
	Fingerprint string `json:"f,omitempty"`

	// Addresses as the others can reach them. A router has no peer port.
	Peer string `json:"p,omitempty"`
	HTTP string `json:"h,omitempty"`
	Ops  string `json:"o,omitempty"`

	Zone     string `json:"z,omitempty"`
	Version  string `json:"v,omitempty"`
	Draining bool   `json:"d,omitempty"` // it is about to stop
	Leaving  bool   `json:"l,omitempty"` // it says goodbye: what comes next is its end
}

// encode gives the bytes that travel.
func (f *Facts) encode() ([]byte, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxFacts {
		return nil, fmt.Errorf("what the gossip tells about %s %q takes %d bytes, and %d are possible: give shorter host names or a shorter zone", f.Role, f.ID, len(b), MaxFacts)
	}
	return b, nil
}

var errFacts = errors.New("its facts can't be read")

// decodeFacts reads what another member encoded. Fields of a later version are ignored.
func decodeFacts(b []byte) (f Facts, err error) {
	if len(b) > MaxFacts || json.Unmarshal(b, &f) != nil || f.ID == "" {
		return f, errFacts
	}
	return f, nil
}

// nameSeparator is between the id and the moment of the start in a member's name. Ids
// have no @.
const nameSeparator = "@"

// memberName is the name of one life of a member.
func memberName(role Role, id string, started int64) string {
	return string(role) + "/" + id + nameSeparator + strconv.FormatInt(started, 36)
}

// startOf is when the member with this name started; false: it is no such name.
func startOf(name string) (started int64, ok bool) {
	i := strings.LastIndex(name, nameSeparator)
	if i < 0 {
		return 0, false
	}
	started, err := strconv.ParseInt(name[i+1:], 36, 64)
	return started, err == nil
}
