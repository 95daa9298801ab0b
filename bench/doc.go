// Package bench puts a cluster under load and says what it did: how many requests a
// second, how long they took, and whether the units add up afterwards.
//
// Latency is measured from when a request was due, not from when it was sent: a cluster
// that stops for a second is charged for every request that came in that second (Gil
// Tene calls the opposite coordinated omission). In an open loop requests are due at
// times of their own, whatever becomes of those before; in a closed loop each
// connection's next request is due when its last one was answered.
//
// Read config.go (what a run is), workload.go (what is asked), arrivals.go (when),
// driver.go (who asks), recorder.go and result.go (what came of it), proof.go (whether
// the units add up). Package report, below, writes results down and compares them with
// objectives.
package bench
