// Package formationpb is the wire format of the formation of a cluster. The code
// is generated from formation.proto.
package formationpb

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative formation.proto
