package allocator

// CommandKind tells what an encoded command is without decoding it; 0 when
// there is nothing to tell.
func CommandKind(encoded []byte) Kind {
	if len(encoded) == 0 {
		return 0
	}
	return Kind(encoded[0])
}
