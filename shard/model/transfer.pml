/*
 * Transfers: exactly once, the giver shrinks first.
 *
 * Any shard may send any units anywhere, and sell any, at any time: whatever a
 * rebalancing policy does is among it. Deliveries and answers are lost,
 * repeated, overtaken and late without bound, and leaders fall at any point.
 * Instead of acting these faults one by one, the model has no memory that they
 * could hurt:
 *
 *   - What was ever sent can be delivered at any time after, in any order, again
 *     and again, or never. A leader sends a prefix of its outbox; upto says how
 *     far a delivery that starts at a number has ever gone.
 *   - An answer says what the destination had taken at some moment, so any
 *     number up to `received` may come as an answer, or come late.
 *   - Leaders keep nothing from one step to the next. Each step depends on the
 *     applied state and on a message only, so it may be the first step of a new
 *     leader, or the last of an old one that does not know it was deposed.
 *
 * Couriers do what delivery.go repeats until it is acknowledged, and are treated
 * fairly; the World does everything else if and when it likes.
 */

#include "shards.pml"

typedef numbers {
	byte upto[NUMBERS];     /* index 0: deliveries that start at number 1 */
};
numbers delivery[PAIRS];

/* The leader sends its outbox, all prefixes of it, as soon as it changes. */
inline post(x) {
	if
	:: p[x].acked < p[x].sent -> delivery[x].upto[p[x].acked] = p[x].sent
	:: else
	fi
}

/* TransferIn: skip what was taken, take what follows. A delivery starts at a
 * number whose predecessor was acknowledged, so a gap would be a loss. */
inline take(x, first, last) {
	assert(first <= p[x].received + 1);
	q = first;
	do
	:: q > last -> break
	:: q <= last ->
		if
		:: q > p[x].received ->
			assert(q == p[x].received + 1);
			avail[TARGET(x)] = avail[TARGET(x)] + p[x].units[q - 1];
			p[x].received = q
		:: q <= p[x].received ->
#ifdef NO_DEDUP
			avail[TARGET(x)] = avail[TARGET(x)] + p[x].units[q - 1]
#else
			skip    /* a duplicate */
#endif
		fi;
		q++
	od;
	q = 0;
	conserved()
}

/* What an answer may say at most. */
#ifdef FORGET_SENT
#define TAKEN(x) p[x].sent
#else
#define TAKEN(x) p[x].received
#endif

/* TransferAck: the source forgets. */
inline ack(x, through) {
	assert(through <= p[x].received);
	p[x].acked = through;
	post(x)
}

/* No unit is lost or made: for sale, sold, or in an outbox and not taken yet. */
inline conserved() {
	sum = avail[0] + avail[1] + avail[2];
	y = 0;
	do
	:: y == PAIRS -> break
	:: y < PAIRS ->
		assert(p[y].acked <= p[y].received && p[y].received <= p[y].sent);
		z = p[y].received;
		do
		:: z == p[y].sent -> break
		:: z < p[y].sent -> sum = sum + p[y].units[z]; z++
		od;
		y++
	od;
	assert(sum == unsold);
	sum = 0; y = 0; z = 0
}

hidden byte q, sum, y, z;

/* What the leader of a source repeats: deliver the outbox, read the answer. */
proctype Courier(byte x) {
end:	do
	:: d_step { p[x].received < p[x].sent -> take(x, p[x].acked + 1, p[x].sent) }
	:: d_step { p[x].acked < p[x].received -> ack(x, p[x].received) }
	od
}

proctype World() {
	byte x, s, n;
end:	do
	:: atomic { transfers < TRANSFERS ->
		select(x : 0 .. (PAIRS - 1));
		select(n : 1 .. UNITS);
		if
		:: avail[SOURCE(x)] >= n -> out(x, n); post(x); conserved()
		:: avail[SOURCE(x)] < n
		fi;
		x = 0; n = 0 }
	:: atomic { unsold > 0 ->
		select(s : 0 .. (SHARDS - 1));
		if
		:: avail[s] > 0 -> sell(s); conserved()
		:: avail[s] == 0
		fi;
		s = 0 }
	:: atomic {             /* any delivery there ever was, or a part of it */
		select(x : 0 .. (PAIRS - 1));
		select(s : 1 .. NUMBERS);
		if
		:: delivery[x].upto[s - 1] >= s ->
			select(n : s .. delivery[x].upto[s - 1]);
			take(x, s, n)
		:: delivery[x].upto[s - 1] < s
		fi;
		x = 0; s = 0; n = 0 }
	:: atomic {             /* any answer there ever was that tells anything */
		select(x : 0 .. (PAIRS - 1));
		if
		:: p[x].acked < TAKEN(x) ->
			select(n : (p[x].acked + 1) .. TAKEN(x));
			ack(x, n)
		:: p[x].acked == TAKEN(x)
		fi;
		x = 0; n = 0 }
	od
}

init {
	byte s, n;
	atomic {
		stock();
		run Courier(0); run Courier(1); run Courier(2);
		run Courier(3); run Courier(4); run Courier(5);
		run World()
	}
}

#define QUIET(x) (p[x].acked == p[x].sent)

/* When no more is sent, all arrives and all outboxes become empty. */
ltl arrives { <> [] (QUIET(0) && QUIET(1) && QUIET(2) && QUIET(3) && QUIET(4) && QUIET(5)) }
