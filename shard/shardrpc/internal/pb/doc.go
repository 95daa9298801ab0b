// Package pb is the protobuf code of the contract between nodes, made from
// shard.proto. Only package shardrpc uses it.
//
// To make it again, install protoc and the two plugins at the versions that the
// generated files name, then run go generate here.
package pb

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative shard.proto
