package dashboards

// leads keeps what the leader of a shard says now. Only leaders report stock, but a rate
// looks back, and would count who led before too.
const leads = " * on (instance, shard) group_left () stockade_shard_ready"

// bad marks a value from where on somebody should look.
func bad(v float64) *float64 { return &v }

// one is a panel's only query.
func one(expr, legend string) []Query { return []Query{{expr, legend}} }

// quantiles are the median and two ends of a histogram's values.
func quantiles(buckets string) []Query {
	q := func(q, legend string) Query {
		return Query{"histogram_quantile(" + q + ", " + buckets + ")", legend}
	}
	return []Query{q("0.5", "p50"), q("0.99", "p99"), q("0.999", "p99.9")}
}

// units are those of all SKUs in a state.
func units(state string) string {
	return `sum(stockade_shard_units{state="` + state + `"}` + leads + `) or vector(0)`
}

// All are the dashboards.
func All() []Dashboard {
	return []Dashboard{flashSale(), service(), shards(), movement(), nodes()}
}

func flashSale() Dashboard {
	return Dashboard{
		UID: "stockade-sale", Title: "Stockade: flash sale",
		Description: "How the sale goes: what is sold, what is left, who is refused, who waits.",
		Rows: []Row{
			{"Now", []Panel{
				{"Sold", "Units that buyers hold or have paid for: reserved and confirmed.", Stat, Count,
					one(`sum(stockade_shard_units{state=~"reserved|committed"}`+leads+`) or vector(0)`, ""), nil},
				{"Left", "Units that can be bought now.", Stat, Count, one(units("available"), ""), nil},
				{"Sell-through", "Part of the stock that is sold, safety stock not counted.", Stat, Ratio,
					one(`sum(stockade_shard_units{state=~"reserved|committed"}`+leads+`) / sum(stockade_shard_units{state!="safety_stock"}`+leads+`) or vector(0)`, ""), nil},
				{"Oversold", "Broken promises: errors that stopped a replica before it could sell a unit twice, and refusals that missed units. Must be 0.", Stat, Count,
					one(`sum(stockade_invariant_violations_total) + sum(stockade_shard_false_refusals_total)`, ""), bad(1)},
				{"Stranded", "Units between shards that have not arrived. 0 within a second when nothing is moved.", Stat, Count, one(units("in_transit"), ""), nil},
				{"Waiting", "Requests that wait in line for units to come back, or for units of another shard.", Stat, Count,
					one(`sum(stockade_shard_parked_requests) or vector(0)`, ""), nil},
			}},
			{"Demand", []Panel{
				{"Reservations", "Requests to reserve, by what buyers were told: sold, sold out, other refusals, no answer in time.", Graph, PerSecond,
					one(`sum by (outcome) (rate(stockade_router_requests_total{operation=~"reserve|reserve-batch"}[1m]))`, "{{outcome}}"), nil},
				{"Refused for lack of stock", "Part of the reservations that found nothing. Near 1 after a sell-out, and then cheap.", Graph, Ratio,
					one(`sum(rate(stockade_router_requests_total{outcome="insufficient-stock"}[1m])) / sum(rate(stockade_router_requests_total{operation=~"reserve|reserve-batch"}[1m]))`, "refused"), nil},
				{"Units by state", "Where the stock is. Reserved units come back if nobody confirms them in time.", Graph, Count,
					one(`sum by (state) (stockade_shard_units`+leads+`)`, "{{state}}"), nil},
				{"Watched SKUs", "What can be bought now of the SKUs whose policy says watch, 50 at most.", Graph, Count,
					one(`sum by (sku) (stockade_watched_units{state="available"})`, "{{sku}}"), nil},
				{"How reservations end", "Confirmed is money. Many expired ones are units that were held for nothing: look at the time to live.", Graph, PerSecond,
					one(`sum by (how) (rate(stockade_shard_reservations_ended_total[1m])`+leads+`)`, "{{how}}"), nil},
			}},
		},
	}
}

func service() Dashboard {
	return Dashboard{
		UID: "stockade-service", Title: "Stockade: service",
		Description: "Rate, errors, duration and saturation of what clients ask.",
		Rows: []Row{
			{"Requests", []Panel{
				{"Rate", "Requests answered, by operation.", Graph, PerSecond, one(`sum by (operation) (rate(stockade_http_requests_total[1m]))`, "{{operation}}"), nil},
				{"Errors", "Part of the requests that failed for a reason of ours, overload not counted. The objective is 0.1 %.", Graph, Ratio,
					[]Query{{`stockade:request_error_ratio:rate5m`, "5 min"}, {`stockade:request_error_ratio:rate1h`, "1 h"}}, bad(0.001)},
				{"Duration of reservations", "From the arrival of a request to the end of its answer. Waiting in line counts.", Graph, Seconds,
					quantiles(`sum by (le) (rate(stockade_http_request_duration_seconds_bucket{operation="reserve"}[1m]))`), bad(0.5)},
				{"Answers by status and code", "What is not ok, by the code that docs/api.md explains.", Graph, PerSecond,
					one(`sum by (status, code) (rate(stockade_http_requests_total{code!="ok"}[1m]))`, "{{status}} {{code}}"), nil},
			}},
			{"Saturation", []Panel{
				{"Under way", "Requests that are being answered, on each node.", Graph, Count, one(`stockade_http_in_flight`, "{{instance}}"), nil},
				{"Shed", "Part of the requests that were refused at once because there were too many.", Graph, Ratio,
					one(`stockade:request_shed_ratio:rate1m`, "shed"), bad(0.01)},
				{"Queue before the log", "Commands that wait for an entry, by shard. What waits longer than half a second is refused.", Graph, Count,
					one(`max by (shard) (stockade_raft_queue_commands)`, "shard {{shard}}"), nil},
				{"Repetitions", "Requests answered with the first outcome of their key: clients that retry.", Graph, PerSecond,
					one(`sum(rate(stockade_router_replays_total[1m]))`, "replays"), nil},
			}},
		},
	}
}

func shards() Dashboard {
	return Dashboard{
		UID: "stockade-shards", Title: "Stockade: shards and Raft",
		Description: "Who leads, how entries are committed, who lags.",
		Rows: []Row{
			{"Leadership", []Panel{
				{"Shards without a leader", "Shards that serve nobody now. More than a moment of it is an outage.", Stat, Count,
					one(`count(max by (shard) (stockade_shard_ready) == 0) or vector(0)`, ""), bad(1)},
				{"Shards led, by node", "They should be spread evenly.", Graph, Count, one(`sum by (instance) (stockade_shard_ready)`, "{{instance}}"), nil},
				{"Elections won", "Each is about a second without service of a shard.", Graph, Count,
					one(`sum by (instance) (increase(stockade_shard_elections_won_total[5m]))`, "{{instance}}"), nil},
				{"Terms", "They grow with elections, also with those that nobody wins.", Graph, Count, one(`max by (shard) (stockade_shard_term)`, "shard {{shard}}"), nil},
			}},
			{"Entries", []Panel{
				{"Commit", "From handing an entry to Raft until it is applied: two syncs and a round trip.", Graph, Seconds,
					quantiles(`sum by (le) (rate(stockade_raft_commit_seconds_bucket[1m]))`), bad(0.1)},
				{"Log write and sync", "p99 of each node's disk.", Graph, Seconds,
					one(`histogram_quantile(0.99, sum by (le, instance) (rate(stockade_log_write_seconds_bucket[1m])))`, "{{instance}}"), bad(0.1)},
				{"Sync alone", "p99 of each node's syncs: what of the writes is the disk's.", Graph, Seconds,
					one(`histogram_quantile(0.99, sum by (le, instance) (rate(stockade_log_sync_seconds_bucket[1m])))`, "{{instance}}"), bad(0.1)},
				{"Commands in an entry", "Larger entries under load are how a shard keeps up.", Graph, Count,
					one(`sum by (shard) (rate(stockade_raft_batch_commands_sum[1m])) / sum by (shard) (rate(stockade_raft_batch_commands_count[1m]))`, "shard {{shard}}"), nil},
				{"Follower lag", "Entries that a follower has not acknowledged.", Graph, Count,
					one(`max by (shard, peer) (stockade_shard_follower_lag_entries)`, "shard {{shard}} on {{peer}}"), bad(10000)},
				{"Snapshots", "Written in the last hour, own and received.", Graph, Count,
					one(`sum by (instance) (increase(stockade_snapshots_written_total[1h]))`, "{{instance}}"), nil},
				{"Size of snapshots", "It grows with live reservations and SKUs.", Graph, Bytes, one(`max by (shard) (stockade_snapshot_size_bytes)`, "shard {{shard}}"), nil},
			}},
		},
	}
}

func movement() Dashboard {
	return Dashboard{
		UID: "stockade-movement", Title: "Stockade: stock movement",
		Description: "How units get from where they are to where somebody asks for them.",
		Rows: []Row{{"Movement", []Panel{
			{"Transfers", "Moves of units between shards. Many of one unit each mean that the stock is nearly gone.", Graph, PerSecond,
				one(`sum(rate(stockade_transfers_total[1m])`+leads+`)`, "transfers"), nil},
			{"Units moved", "Units in these transfers.", Graph, PerSecond, one(`sum(rate(stockade_transfer_units_total[1m])`+leads+`)`, "units"), nil},
			{"In line", "Requests that wait for units of another shard, or for some to come back.", Graph, Count,
				one(`sum by (instance) (stockade_shard_parked_requests)`, "{{instance}}"), nil},
			{"Time in line", "How long requests stood in line, however it ended. 5 s and more are those that asked to wait.", Graph, Seconds,
				quantiles(`sum by (le) (rate(stockade_shard_parked_duration_seconds_bucket[1m]))`), nil},
			{"Answer of a giver", "From asking another shard for units to its answer.", Graph, Seconds,
				quantiles(`sum by (le) (rate(stockade_shard_pull_duration_seconds_bucket[1m]))`), bad(0.25)},
			{"Age of levels", "How old the oldest level is that decisions rest on. Beyond 50 ms nobody is refused by levels.", Graph, Seconds,
				quantiles(`sum by (le) (rate(stockade_levels_age_seconds_bucket[1m]))`), bad(0.05)},
			{"Undelivered", "Messages to other shards that are not acknowledged.", Graph, Count,
				one(`sum by (shard) (stockade_shard_outbox_messages`+leads+`)`, "shard {{shard}}"), nil},
			{"Expiry lag", "For how long the longest overdue reservation has been due. Its units are not for sale yet.", Graph, Seconds,
				one(`max by (shard) (stockade_shard_expiry_lag_seconds`+leads+`)`, "shard {{shard}}"), bad(5)},
		}}},
	}
}

func nodes() Dashboard {
	return Dashboard{
		UID: "stockade-nodes", Title: "Stockade: nodes",
		Description: "The processes and what is between them.",
		Rows: []Row{
			{"Processes", []Panel{
				{"Up", "Processes that answer a scrape.", Stat, Count, one(`sum(up{job="stockade"})`, ""), nil},
				{"Versions", "Which build each process runs.", Table, Count, one(`max by (instance, version) (stockade_build_info)`, ""), nil},
				{"Processors used", "Processor time, in processors.", Graph, Count, one(`rate(process_cpu_seconds_total{job="stockade"}[1m])`, "{{instance}}"), nil},
				{"Memory", "Resident memory of each process.", Graph, Bytes, one(`process_resident_memory_bytes{job="stockade"}`, "{{instance}}"), nil},
				{"Open files", "Part of what the process may have open.", Graph, Ratio,
					one(`process_open_fds{job="stockade"} / process_max_fds{job="stockade"}`, "{{instance}}"), bad(0.8)},
				{"Disks", "How full the file system of each data directory is. A node whose disk is full ends itself.", Graph, Ratio,
					one(`1 - stockade_data_free_bytes / stockade_data_size_bytes`, "{{instance}}"), bad(0.9)},
				{"Goroutines", "They grow with connections and with requests that wait.", Graph, Count, one(`go_goroutines{job="stockade"}`, "{{instance}}"), nil},
			}},
			{"Between nodes", []Panel{
				{"Round trips", "Of a small question between nodes.", Graph, Seconds, one(`stockade_peer_round_trip_seconds`, "{{instance}} to {{peer}}"), bad(0.05)},
				{"Clock offsets", "How far another node's clock is away. It decides no sale, but expires_at and sale windows are told by it.", Graph, Seconds,
					one(`abs(stockade_peer_clock_offset_seconds)`, "{{instance}} to {{peer}}"), bad(0.5)},
				{"Members that the gossip misses", "Nodes and routers that are thought dead, as each member sees it.", Graph, Count,
					one(`sum by (instance) (stockade_gossip_members{state="dead"})`, "{{instance}}"), bad(1)},
				{"Streams lost", "Connections between nodes that broke.", Graph, Count,
					one(`sum by (instance) (increase(stockade_rpc_connects_total{result="broken"}[5m]))`, "{{instance}}"), nil},
			}},
		},
	}
}
