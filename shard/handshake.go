package shard

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"stockade/allocator"
)

const (
	// peerVersion is the version of the handshake and of what follows it.
	peerVersion = 1

	// peerMagic opens a Raft stream. It must differ from the first bytes of
	// HTTP/2 and of a TLS record.
	peerMagic = "STKD"
	// http2Magic opens a gRPC connection.
	http2Magic = "PRI "

	// handshakeTimeout bounds how long a stranger may hold a connection without
	// saying who it is.
	handshakeTimeout = 5 * time.Second

	// greetingLen is the fixed part of a greeting: magic 4, version 1, reserved
	// 1, shard 2, cluster 16, length of the target's id 1, length of the token 1,
	// reserved 2.
	greetingLen = 28
)

// greeting is what the dialling side of a Raft stream says first. It names the cluster and the
// node it wants, so that a stream that ends up at another node (an address that
// changed hands) or in another cluster is closed before it carries a command.
// token is for authentication; without it, it is empty.
type greeting struct {
	shard   allocator.ShardID
	cluster string // hex
	target  raft.ServerID
	token   string
}

// verdict is the accepting side's answer, one byte.
type verdict uint8

const (
	welcome verdict = iota + 1
	otherVersion
	otherCluster
	otherNode
	noReplica
)

var verdicts = map[verdict]string{
	otherVersion: "it speaks another version of the peer protocol",
	otherCluster: "it belongs to another cluster",
	otherNode:    "another node answers at this address",
	noReplica:    "it has no open replica of the shard",
}

// greet performs the dialling side of the handshake on c before deadline.
func greet(c net.Conn, g greeting, deadline time.Time) error {
	b, err := g.append(nil)
	if err != nil {
		return err
	}
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return fmt.Errorf("no answer to the greeting: %w", err)
	}
	if v := verdict(answer[0]); v != welcome {
		why := verdicts[v]
		if why == "" {
			why = fmt.Sprintf("it gave the unknown answer %d", v)
		}
		return errors.New("the peer refuses the stream: " + why)
	}
	return c.SetDeadline(time.Time{})
}

// append encodes the greeting.
func (g greeting) append(b []byte) ([]byte, error) {
	cluster, err := hex.DecodeString(g.cluster)
	if err != nil || len(cluster) != clusterIDBytes || len(g.target) > 255 || len(g.token) > 255 {
		return nil, fmt.Errorf("greeting can't be encoded: cluster %q, target %q", g.cluster, g.target)
	}
	b = append(b, peerMagic...)
	b = append(b, peerVersion, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(g.shard))
	b = append(b, cluster...)
	b = append(b, byte(len(g.target)), byte(len(g.token)), 0, 0)
	b = append(b, g.target...)
	return append(b, g.token...), nil
}

// readGreeting reads a greeting whose magic has been read. It takes no byte
// beyond it, and no more memory than two length bytes allow.
func readGreeting(r io.Reader) (g greeting, version byte, err error) {
	var fixed [greetingLen - len(peerMagic)]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return g, 0, err
	}
	g.shard = allocator.ShardID(binary.BigEndian.Uint16(fixed[2:]))
	g.cluster = hex.EncodeToString(fixed[4 : 4+clusterIDBytes])
	targetLen, tokenLen := int(fixed[20]), int(fixed[21])
	rest := make([]byte, targetLen+tokenLen)
	if _, err := io.ReadFull(r, rest); err != nil {
		return g, fixed[0], err
	}
	g.target = raft.ServerID(rest[:targetLen])
	g.token = string(rest[targetLen:])
	return g, fixed[0], nil
}
