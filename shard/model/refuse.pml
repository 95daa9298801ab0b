/*
 * Refusals: nobody is refused while units that could serve him are anywhere.
 *
 * One home shard reads a report of every shard, each at a moment of its own, and
 * adds up: what is for sale, and what is in an outbox and not counted by the
 * report of its destination. It refuses when that is less than needed and the
 * reports are consistent: no source calls a message acknowledged that the
 * report of its destination does not count as taken. The claim, for all needs
 * at once: the sum of consistent reports is never less than what is unsold.
 *
 * Transfers are those of transfer.pml without deliveries and answers: it shows
 * that messages are taken once, in order, and acknowledged after that. How late
 * each step is stays open, and so covers all faults there. Any shard sends and
 * sells anything at any time, which covers every policy of pulls.
 *
 * Reports may be as old as they like. That one report per shard is read is no
 * restriction: a verdict stands on one of each, and an asker that reads again is
 * one that began later. They are read in the order of shards, because shards are
 * alike but for their numbers. It judges at the
 * moment of the last; later is no worse, because units only get fewer.
 *
 * RETURNS lets sold units come back, and the claim fails, as it must: a unit that
 * comes back at a shard that was read, before another is sold at one that was
 * not, is overlooked. Then the sum is that of a state that could have been, had
 * the two happened in the other order, which no shard can tell.
 */

#include "shards.pml"

typedef report {
	byte avail;
	byte sent[2], acked[2];  /* to the two others, by pair */
	byte received[2];        /* from the two others, by pair */
};
report r[SHARDS];
byte next;               /* the shard whose report is read next */

/* The pair that leads from a shard's other number i to the shard itself. */
#define OTHER(s, i) ((i) + ((i) >= (s) -> 1 : 0))
#define FROM(s, i)  (2 * OTHER(s, i) + (s) - ((s) > OTHER(s, i) -> 1 : 0))

/* Of a pair: what its source's report and its destination's report say. */
#define SENT(x)     r[SOURCE(x)].sent[(x) % 2]
#define ACKED(x)    r[SOURCE(x)].acked[(x) % 2]
#define AT(x)       (SOURCE(x) - (SOURCE(x) > TARGET(x) -> 1 : 0))
#define RECEIVED(x) r[TARGET(x)].received[AT(x)]

inline look(s) {
	r[s].avail = avail[s];
	r[s].sent[0] = p[2 * s].sent;   r[s].acked[0] = p[2 * s].acked;
	r[s].sent[1] = p[2 * s + 1].sent; r[s].acked[1] = p[2 * s + 1].acked;
	r[s].received[0] = p[FROM(s, 0)].received;
	r[s].received[1] = p[FROM(s, 1)].received
}

inline unlook(s) {
	r[s].avail = 0;
	r[s].sent[0] = 0; r[s].acked[0] = 0; r[s].received[0] = 0;
	r[s].sent[1] = 0; r[s].acked[1] = 0; r[s].received[1] = 0
}

hidden byte sum, y, z;
hidden byte fits;

inline judge() {
	fits = true;
	sum = r[0].avail + r[1].avail + r[2].avail;
	y = 0;
	do
	:: y == PAIRS -> break
	:: y < PAIRS ->
#ifndef NO_RULE
		if
		:: ACKED(y) > RECEIVED(y) -> fits = false
		:: else
		fi;
#endif
		z = (ACKED(y) > RECEIVED(y) -> ACKED(y) : RECEIVED(y));
		do
		:: z >= SENT(y) -> break
		:: z < SENT(y) -> sum = sum + p[y].units[z]; z++
		od;
		y++
	od;
	if
	:: !fits -> skip        /* no verdict: look again */
	:: fits -> assert(sum >= unsold)
	fi;
	sum = 0; y = 0; z = 0; fits = false
}

active proctype World() {
	byte x, s, n;
	atomic { stock() };
end:	do
	:: atomic { transfers < TRANSFERS ->
		select(x : 0 .. (PAIRS - 1));
		select(n : 1 .. UNITS);
		if
		:: avail[SOURCE(x)] >= n -> out(x, n)
		:: avail[SOURCE(x)] < n
		fi;
		x = 0; n = 0 }
	:: atomic {
		select(x : 0 .. (PAIRS - 1));
		if
		:: p[x].received < p[x].sent ->
			avail[TARGET(x)] = avail[TARGET(x)] + p[x].units[p[x].received];
			p[x].received++
		:: p[x].received == p[x].sent
		fi;
		x = 0 }
	:: atomic {
		select(x : 0 .. (PAIRS - 1));
		if
		:: p[x].acked < p[x].received ->
			if              /* no report will show it any more */
			:: SOURCE(x) >= next -> p[x].units[p[x].acked] = 0
			:: SOURCE(x) < next
			fi;
			p[x].acked++
		:: p[x].acked == p[x].received
		fi;
		x = 0 }
	:: atomic { unsold > 0 ->
		select(s : 0 .. (SHARDS - 1));
		if
		:: avail[s] > 0 -> sell(s)
		:: avail[s] == 0
		fi;
		s = 0 }
#ifdef RETURNS
	:: atomic { unsold < UNITS ->   /* a reservation expires or is canceled */
		select(s : 0 .. (SHARDS - 1));
		avail[s] = avail[s] + 1;
		unsold++;
		s = 0 }
#endif
	:: atomic { next < SHARDS - 1 -> look(next); next++ }
	/* The last report is judged at once, and not kept: the run goes on as if it
	 * had not been read, so that it is read at every moment. */
	:: d_step { next == SHARDS - 1 -> look(next); judge(); unlook(next) }
	od
}
