package shardrpc

// outcomeNames spells outcomes for logs and metrics.
var outcomeNames = [...]string{Applied: "applied", NotApplied: "not-applied", Unknown: "unknown"}

// reasonNames spells reasons for logs, metrics and answers.
var reasonNames = [reasonEnd]string{
	ReasonNone:             "none",
	ReasonNotLeader:        "not-leader",
	ReasonNotReady:         "not-ready",
	ReasonNoReplica:        "no-replica",
	ReasonOverloaded:       "overloaded",
	ReasonDeadline:         "deadline",
	ReasonStopping:         "stopping",
	ReasonLeadershipLost:   "leadership-lost",
	ReasonStore:            "store",
	ReasonUnreachable:      "unreachable",
	ReasonInvalid:          "invalid",
	ReasonStockUnreachable: "stock-unreachable",
	ReasonLate:             "late",
}

// String names the outcome, for logs and metrics.
func (o Outcome) String() string {
	if o.valid() {
		return outcomeNames[o]
	}
	return "invalid"
}

func (o Outcome) valid() bool { return o >= Applied && o <= Unknown }

// String names the reason, for logs and metrics.
func (r Reason) String() string {
	if r < reasonEnd {
		return reasonNames[r]
	}
	return "invalid"
}

// Reasons lists every reason.
func Reasons() []Reason {
	all := make([]Reason, reasonEnd)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// phrases say in a sentence why a shard can't be used.
var phrases = [reasonEnd]string{
	ReasonNone:             "it gave no reason",
	ReasonNotLeader:        "it has no leader that is known",
	ReasonNotReady:         "its new leader is not ready yet",
	ReasonNoReplica:        "the node asked has no replica of it",
	ReasonOverloaded:       "its queue is full",
	ReasonDeadline:         "the time ran out",
	ReasonStopping:         "its node is shutting down",
	ReasonLeadershipLost:   "its leader lost its office",
	ReasonStore:            "its log could not be written",
	ReasonUnreachable:      "its node can't be reached",
	ReasonInvalid:          "it does not understand the command",
	ReasonStockUnreachable: "it may hold the missing units and can't be asked",
	ReasonLate:             "the connection to its node brought the request too late",
}

// Phrase says the reason in words that follow "because" or a colon.
func (r Reason) Phrase() string {
	if r < reasonEnd {
		return phrases[r]
	}
	return "it gave a reason of another version"
}
