package shardrpc

import (
	"stockade/allocator"
	"stockade/shard/shardrpc/internal/pb"
)

func levelsRequestTo(r LevelsRequest) *pb.LevelsRequest {
	return &pb.LevelsRequest{Probe: r.Probe, Add: skuTexts(r.Add), Drop: skuTexts(r.Drop)}
}

func levelsRequestFrom(m *pb.LevelsRequest) (LevelsRequest, error) {
	var c checker
	r := LevelsRequest{Probe: m.GetProbe(), Add: c.skus(m.GetAdd()), Drop: c.skus(m.GetDrop())}
	return r, c.err
}

func skuTexts(skus []allocator.SKU) []string {
	var all []string
	for _, sku := range skus {
		all = append(all, string(sku))
	}
	return all
}

func (c *checker) skus(texts []string) []allocator.SKU {
	c.require(len(texts) <= max(MaxLevels, MaxSKUsPerRequest), "too many SKUs")
	if c.err != nil {
		return nil
	}
	var all []allocator.SKU
	for _, text := range texts {
		all = append(all, c.sku(text))
	}
	return all
}

func levelsReplyTo(r LevelsReply) *pb.LevelsReply {
	m := &pb.LevelsReply{Probe: r.Probe}
	for i := range r.Shards {
		s := &r.Shards[i]
		levels := &pb.ShardLevels{Shard: uint32(s.Shard), AsOf: s.AsOf}
		for k := range s.Changed {
			levels.Changed = append(levels.Changed, reportTo(&s.Changed[k]))
		}
		m.Shards = append(m.Shards, levels)
	}
	for _, t := range r.Terms {
		m.Terms = append(m.Terms, &pb.ShardTerm{Shard: uint32(t.Shard), Term: t.Term})
	}
	return m
}

func levelsReplyFrom(m *pb.LevelsReply) (LevelsReply, error) {
	var c checker
	c.require(len(m.GetShards()) <= allocator.MaxShards && len(m.GetTerms()) <= allocator.MaxShards, "too many shards")
	if c.err != nil {
		return LevelsReply{}, c.err
	}
	r := LevelsReply{Probe: m.GetProbe()}
	for _, s := range m.GetShards() {
		r.Shards = append(r.Shards, c.shardLevels(s))
	}
	for _, t := range m.GetTerms() {
		r.Terms = append(r.Terms, ShardTerm{Shard: c.shard(t.GetShard()), Term: t.GetTerm()})
	}
	return r, c.err
}

func (c *checker) shardLevels(m *pb.ShardLevels) ShardLevels {
	s := ShardLevels{Shard: c.shard(m.GetShard()), AsOf: m.GetAsOf()}
	c.require(len(m.GetChanged()) <= MaxLevels, "too many levels of a shard")
	for _, r := range m.GetChanged() {
		if c.require(r.GetSku() != "", "levels of no SKU"); c.err != nil {
			return s
		}
		if report := c.report(s.Shard, r); report != nil {
			s.Changed = append(s.Changed, *report)
		}
	}
	return s
}
