/*
 * What shards keep in their replicated state about one SKU, and the steps that
 * change it. Each step is one log entry: durable and atomic, whoever leads the
 * shard before and after it. transfer.pml and refuse.pml are built on it.
 *
 * A pair is a source and another shard, its destination: number 0 is 0 to 1,
 * then 0 to 2, 1 to 0, 1 to 2, 2 to 0, 2 to 1. Messages of a pair are numbered
 * from 1. What a number stands for never changes, so the units of a message are
 * kept once, and outboxes and deliveries are ranges of numbers.
 */

#define SHARDS 3
#define UNITS  3
#define PAIRS  6
#define SOURCE(x) ((x) / 2)
#define TARGET(x) ((x) % 2 + ((x) % 2 >= (x) / 2 -> 1 : 0))

/* Runs are made finite by the number of transfers, of all pairs together. */
#ifndef TRANSFERS
#define TRANSFERS 4
#endif
#define NUMBERS TRANSFERS

byte avail[SHARDS];
byte unsold = UNITS;    /* of the whole cluster; nobody in it knows this number */

typedef pair {
	byte sent;              /* at the source: the last number used */
	byte acked;             /* at the source: the outbox holds what is above */
	byte received;          /* at the destination: the last number taken */
	byte units[NUMBERS];    /* index 0: of number 1 */
};
pair p[PAIRS];
byte transfers;

/* The units may lie anywhere to begin with. */
inline stock() {
	select(s : 0 .. UNITS);
	avail[0] = s;
	select(n : 0 .. (UNITS - s));
	avail[1] = n;
	avail[2] = UNITS - s - n;
	s = 0; n = 0
}

/* TransferOut: the giver shrinks first. */
inline out(x, n) {
	avail[SOURCE(x)] = avail[SOURCE(x)] - n;
	p[x].units[p[x].sent] = n;
	p[x].sent++;
	transfers++
}

/* A sale, by whoever comes. */
inline sell(s) {
	avail[s] = avail[s] - 1;
	unsold--
}
