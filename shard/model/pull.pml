/*
 * Pulls: requests that are short of units, and givers with requests of their own.
 *
 * Three shards, three units, requests parked at their home shards. The leader of
 * a home asks shards that have units for what its oldest request lacks, or for
 * what all of its requests lack, in the name of the oldest. The leader of the
 * giver grants by wound-wait: it keeps what its own parked requests need that
 * are older than the asker, and gives from the rest up to what is asked; a
 * younger one's units may be taken. The claim is that every request is served,
 * refused or gone in the end, if leaders do their work and faults come to an end.
 *
 * Requests are numbered by age. Shards are alike but for their numbers, so the
 * homes need to be tried up to renaming only: which requests share one.
 *
 * What is left out, and why that is sound:
 *   - Deliveries. transfer.pml shows that what was sent arrives once, in the
 *     end; here it arrives once, at any time. Two transfers of a pair may
 *     overtake each other here; they can't there.
 *   - Reports. refuse.pml shows that a refusal is right. Here a request that
 *     all units together can't serve is refused at the latest when nothing
 *     moves any more: the reports read from then on fit together and are exact.
 *   - Levels. A leader asks whoever has a unit, not the richest first, so any
 *     order is covered.
 *
 * Settings, each a -D: see run.sh.
 */

#ifndef SKUS
#define SKUS 1          /* 2: carts, each of one unit of both */
#endif
#ifndef UNITS
#define UNITS 3         /* of each SKU */
#endif
#ifndef HOMES
#define HOMES 2
#endif
#ifndef REQUESTS
#define REQUESTS 3
#endif
#ifndef FAULTS
#define FAULTS 0        /* lost asks, asks given up, fallen leaders: so many together */
#endif
#ifndef LATE
#define LATE 0          /* 1: there is room for a pull that its taker no longer knows */
#endif
#ifndef ONE
#define ONE 9           /* a request that needs one unit; others need one or two */
#endif
#ifndef TWO
#define TWO 9           /* a request that needs two units */
#endif

#define PAIRS (6 * SKUS)
#define AVAIL(s, k) avail[(s) * SKUS + (k)]
#define ASKED(s, k) asked_for[(s) * SKUS + (k)]
#define NEED(r, k)  need[(r) * SKUS + (k)]

mtype:request = { over, lost, parked };
mtype:step = { idle, asked, proposed, sent };

byte avail[3 * SKUS];      /* replicated */
byte asked_for[3 * SKUS];  /* by the home's leader, and not answered */
byte unsold[SKUS];         /* of the cluster; only refusals look at it */
byte moving;               /* transfers under way */

mtype:request is[3] = over;
byte need[3 * SKUS];
byte home[3];
byte age[3];               /* a lower number is older */
byte ages = 3;

/* A pull has a life of its own, whatever becomes of the leader that asked. */
typedef pull {
	mtype:step step = idle;
	byte taker, giver, sku;
	byte known;            /* its part of what the taker counts as asked for */
	byte age;              /* of the request it was asked for */
	byte units;            /* asked, then granted, then sent */
};
pull p[PAIRS + LATE];

byte faults = FAULTS;
#ifdef COUNT
byte transfers;
#endif
bool ready;

#define BEATS(q, r) (is[q] == parked && home[q] == home[r] && age[q] < age[r])
#define OLDEST(r)   (is[r] == parked && !BEATS(0, r) && !BEATS(1, r) && !BEATS(2, r))
#define HAS(r, k)   (AVAIL(home[r], k) >= NEED(r, k))
#if SKUS == 1
#define FITS(r)  HAS(r, 0)
#define SHORT(r) (unsold[0] < NEED(r, 0))
#else
#define FITS(r)  (HAS(r, 0) && HAS(r, 1))
#define SHORT(r) (unsold[0] < NEED(r, 0) || unsold[1] < NEED(r, 1))
#endif

/* What home h keeps of k from an asker: the needs of its older requests. For a
 * cart that is all its lines, not only the one it is short of. */
#ifdef KEEP_FIRST_SHORT
#define IN_LINE(r, k) ((k) == (HAS(r, 0) -> 1 : 0))
#else
#define IN_LINE(r, k) true
#endif
#define KEEPS1(r, h, k, a) ((is[r] == parked && home[r] == h && age[r] < a && IN_LINE(r, k)) -> NEED(r, k) : 0)
#ifdef NO_WOUND_WAIT
#define KEEPS(h, k, a) 0
#else
#define KEEPS(h, k, a) (KEEPS1(0, h, k, a) + KEEPS1(1, h, k, a) + KEEPS1(2, h, k, a))
#endif

/* What home h needs of k: for all its requests, and whether the oldest lacks some. */
#define NEEDS1(r, h, k) ((is[r] == parked && home[r] == h) -> NEED(r, k) : 0)
#define NEEDS(h, k)     (NEEDS1(0, h, k) + NEEDS1(1, h, k) + NEEDS1(2, h, k))
#define ASKS(r, h)      (OLDEST(r) && home[r] == h)
#define LACKS1(r, h, k) (ASKS(r, h) && NEED(r, k) > AVAIL(h, k) + ASKED(h, k))
#define LACKS(h, k)     (LACKS1(0, h, k) || LACKS1(1, h, k) || LACKS1(2, h, k))

#define MIN(a, b)  ((a) < (b) -> (a) : (b))
#define LESS(a, b) ((a) > (b) -> (a) - (b) : 0)

/* The leader of the taker asks. It does not ask twice for one unit, as far as it
 * knows; repetitions are faults. */
inline ask(x) {
	if
	:: ASKS(0, p[x].taker) -> p[x].age = age[0]; p[x].units = NEED(0, p[x].sku)
	:: ASKS(1, p[x].taker) -> p[x].age = age[1]; p[x].units = NEED(1, p[x].sku)
	:: ASKS(2, p[x].taker) -> p[x].age = age[2]; p[x].units = NEED(2, p[x].sku)
	fi;
	if
	:: true
	:: NEEDS(p[x].taker, p[x].sku) > p[x].units -> p[x].units = NEEDS(p[x].taker, p[x].sku)
	fi;
	p[x].units = p[x].units - AVAIL(p[x].taker, p[x].sku) - ASKED(p[x].taker, p[x].sku);
	p[x].known = p[x].units;
	ASKED(p[x].taker, p[x].sku) = ASKED(p[x].taker, p[x].sku) + p[x].known;
	p[x].step = asked
}

/* The leader of the giver proposes a transfer. It looks at the applied state,
 * which may be another when the entry is applied. */
inline grant(x) {
	z = LESS(AVAIL(p[x].giver, p[x].sku), KEEPS(p[x].giver, p[x].sku, p[x].age));
	p[x].units = MIN(p[x].units, z);
#ifdef SHARE
	p[x].units = p[x].units + (z - p[x].units) / 2;
#endif
	z = 0;
	p[x].age = 0;
	p[x].step = proposed
}

/* TransferOut is applied: it sends what is there. */
inline send(x) {
	p[x].units = MIN(p[x].units, AVAIL(p[x].giver, p[x].sku));
	AVAIL(p[x].giver, p[x].sku) = AVAIL(p[x].giver, p[x].sku) - p[x].units;
	moving++;
	p[x].step = sent;
	printf("%d units from %d to %d\n", p[x].units, p[x].giver, p[x].taker)
#ifdef COUNT
	; if
	:: p[x].units > 0 -> transfers++
	:: p[x].units == 0
	fi;
	assert(transfers <= COUNT)
#endif
}

inline arrive(x) {
	AVAIL(p[x].taker, p[x].sku) = AVAIL(p[x].taker, p[x].sku) + p[x].units;
	moving--
}

inline done(x) {
	ASKED(p[x].taker, p[x].sku) = ASKED(p[x].taker, p[x].sku) - p[x].known;
	p[x].step = idle; p[x].known = 0; p[x].age = 0; p[x].units = 0
}

/* A pull that its taker has forgotten goes on in the late place. */
inline copy(x, y) {
	p[y].step = p[x].step; p[y].taker = p[x].taker; p[y].giver = p[x].giver; p[y].sku = p[x].sku;
	p[y].age = p[x].age; p[y].units = p[x].units
}
inline wipe(y) {
	p[y].step = idle; p[y].taker = 0; p[y].giver = 0; p[y].sku = 0;
	p[y].age = 0; p[y].units = 0
}

hidden byte z;

proctype Pull(byte x) {
	ready;
end:	do
	:: atomic { p[x].step == idle && AVAIL(p[x].giver, p[x].sku) > 0 && LACKS(p[x].taker, p[x].sku) ->
		ask(x)
#ifndef ASK_APART
		; grant(x) }
#else
		}
	:: d_step { p[x].step == asked -> grant(x) }
#endif
	:: d_step { p[x].step == proposed && p[x].units == 0 -> done(x) }
	:: d_step { p[x].step == proposed && p[x].units > 0 -> send(x) }
	:: d_step { p[x].step == sent -> arrive(x); done(x) }
#if FAULTS > 0
	/* Lost on its way, or with the leader that should have proposed it. */
	:: d_step { faults > 0 && (p[x].step == asked || p[x].step == proposed) ->
		faults--; done(x) }
#endif
#if LATE > 0
	/* Given up by the taker, but not lost. */
	:: d_step { faults > 0 && p[x].step != idle && p[PAIRS].step == idle ->
		faults--; copy(x, PAIRS); done(x) }
	/* Asked once, proposed twice. */
	:: d_step { faults > 0 && (p[x].step == asked || p[x].step == proposed) && p[PAIRS].step == idle ->
		faults--; copy(x, PAIRS) }
#endif
	od
}

#if LATE > 0
proctype Late(byte x) {
	ready;
end:	do
#ifdef ASK_APART
	:: d_step { p[x].step == asked -> grant(x) }
#endif
	:: d_step { p[x].step == proposed && p[x].units == 0 -> wipe(x) }
	:: d_step { p[x].step == proposed && p[x].units > 0 -> send(x) }
	:: d_step { p[x].step == sent -> arrive(x); wipe(x) }
	od
}
#endif

inline goes(r) {
	is[r] = over; home[r] = 0; age[r] = 0;
	NEED(r, 0) = 0
#if SKUS > 1
	; NEED(r, 1) = 0
#endif
}

inline sell(r) {
	AVAIL(home[r], 0) = AVAIL(home[r], 0) - NEED(r, 0);
	unsold[0] = unsold[0] - NEED(r, 0);
#if SKUS > 1
	AVAIL(home[r], 1) = AVAIL(home[r], 1) - NEED(r, 1);
	unsold[1] = unsold[1] - NEED(r, 1);
#endif
	goes(r)
}

/* What a home's leader does for a request, and what its client does when the
 * leader fell: it asks the next one. */
proctype Home(byte r) {
	ready;
end:	do
	:: d_step { OLDEST(r) && FITS(r) -> sell(r) }
	:: d_step { OLDEST(r) && SHORT(r) && moving == 0 -> goes(r) }
#ifdef CRASHES
	:: d_step { is[r] == lost -> is[r] = parked }
#endif
	od
}

/* A request may go away: its deadline, its client, or a refusal that comes before
 * all is at rest. One that is not the oldest may be served when it fits. */
inline may(r) {
	atomic { is[r] != over ->
		if
		:: goes(r)
		:: is[r] == parked && FITS(r) -> sell(r)
		fi }
}

/* The requests parked at s are forgotten. They are parked again with their age,
 * or as the youngest of all. */
inline unpark(r, s) {
	if
	:: is[r] == parked && home[r] == s ->
		is[r] = lost;
		if
		:: true
		:: age[r] = ages; ages++
		fi
	:: else
	fi
}

/* The new leader of s does not know what the old one asked for. What the old one
 * was asked and has not seen applied may be applied yet, or never. */
inline forget(x, s) {
	if
	:: p[x].step != idle && p[x].taker == s ->
		ASKED(p[x].taker, p[x].sku) = ASKED(p[x].taker, p[x].sku) - p[x].known;
		p[x].known = 0
	:: p[x].giver == s && (p[x].step == asked || p[x].step == proposed) ->
		if
		:: true
		:: done(x)
		fi
	:: else
	fi
}

/* Everything that need not happen. */
proctype World() {
	byte s, x;
	ready;
end:	do
	:: ready = true         /* nothing: fairness must not force the others */
#ifndef CALM
	:: may(0)
	:: may(1)
	:: may(2)
#endif
#ifdef STRANGERS
	/* A request that finds its units at once. */
	:: d_step { AVAIL(0, 0) > 0 -> AVAIL(0, 0) = AVAIL(0, 0) - 1; unsold[0] = unsold[0] - 1 }
	:: d_step { AVAIL(1, 0) > 0 -> AVAIL(1, 0) = AVAIL(1, 0) - 1; unsold[0] = unsold[0] - 1 }
	:: d_step { AVAIL(2, 0) > 0 -> AVAIL(2, 0) = AVAIL(2, 0) - 1; unsold[0] = unsold[0] - 1 }
#endif
#ifdef CRASHES
	:: atomic { faults > 0 ->
		faults--;
		select(s : 0 .. 2);
		unpark(0, s); unpark(1, s); unpark(2, s);
		x = 0;
		do
		:: x < PAIRS -> forget(x, s); x++
		:: else -> break
		od;
		s = 0; x = 0 }
#endif
	od
}

inline order(i, h) {
	is[i] = parked; home[i] = h; age[i] = i;
#if SKUS == 1
	if
	:: i != ONE -> NEED(i, 0) = 2
	:: i != TWO -> NEED(i, 0) = 1
	fi
#else
	NEED(i, 0) = 1; NEED(i, 1) = 1
#endif
}

init {
	byte i, j, k;
	atomic {
		do
		:: i == PAIRS -> break
		:: else ->
			p[i].sku = i / 6;
			p[i].taker = (i % 6) / 2;
			p[i].giver = i % 2 + (i % 2 >= p[i].taker -> 1 : 0);
			i++
		od;
		do
		:: k == SKUS -> break
		:: else ->
			unsold[k] = UNITS;
			select(i : 0 .. UNITS);
			AVAIL(0, k) = i;
#if SKUS == 1
			select(j : 0 .. (UNITS - i));
#else
			j = UNITS - i;  /* two shards are enough for carts */
#endif
			AVAIL(1, k) = j;
			AVAIL(2, k) = UNITS - i - j;
			k++
		od;
		order(0, 0);
#if HOMES == 3
		order(1, 1); order(2, 2);
#elif REQUESTS == 2
		order(1, 1);
#else
		if
		:: order(1, 0); order(2, 1)
		:: order(1, 1); order(2, 0)
		:: order(1, 1); order(2, 1)
		fi;
#endif
		i = 0; j = 0; k = 0;
		do
		:: i == PAIRS -> break
		:: i < PAIRS ->
			if
#if SKUS == 1
			:: run Pull(i)
#else
			:: p[i].taker < 2 && p[i].giver < 2 -> run Pull(i)
			:: p[i].taker == 2 || p[i].giver == 2
#endif
			fi;
			i++
		od;
		i = 0;
#if LATE > 0
		run Late(PAIRS);
#endif
		run Home(0); run Home(1); run Home(2);
		run World();
		ready = true
	}
}

/* Whatever happens, all requests are answered or gone in the end. */
ltl settles { <> (ready && is[0] == over && is[1] == over && is[2] == over) }
