package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"stockade/allocator"
)

// maxShards bounds the setting as the state machine does.
const maxShards = allocator.MaxShards

// maxIDLen bounds a node's name, as the node itself does.
const maxIDLen = 63

// kind is what a setting's text must look like.
type kind struct {
	arg    string   // placeholder in help
	values []string // the only values, if there are few
	// check tells what text must be, as the end of a sentence ("must be …").
	check func(text string) error
}

var (
	errAddress = errors.New("must be HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:8400")
	errMembers = errors.New("must be a list of ID=HOST:PORT, each id and each address once, such as a=10.0.0.1:8402,b=10.0.0.2:8402")
	errNetwork = errors.New("must be a list of networks, such as 10.0.0.0/8,fd00::/8")
	errSeed    = fmt.Errorf("must be SKU=UNITS with 0 to %d units, each SKU once, or none", allocator.MaxQuantity)
	errURL     = errors.New("must be an http or https URL without a path, such as http://127.0.0.1:8401")
)

var (
	boolean    = kind{arg: "", values: []string{"true", "false"}, check: among("true", "false")}
	address    = kind{arg: "ADDR", check: checkAddress}
	addrList   = kind{arg: "ADDR,...", check: checkAddresses}
	netList    = kind{arg: "CIDR,...", check: func(text string) error { _, err := parseNetworks(text); return err }}
	memberList = kind{arg: "ID=ADDR,...", check: func(text string) error { _, err := parseMembers(text); return err }}
	seedList   = kind{arg: "SKU=UNITS", check: func(text string) error { _, err := parseSeeds(text); return err }}
	httpURL    = kind{arg: "URL", check: checkURL}
)

// anyText takes whatever it is given.
func anyText(arg string) kind {
	return kind{arg: arg, check: func(string) error { return nil }}
}

// integer takes whole numbers from low to high.
func integer(low, high int) kind {
	return kind{arg: "N", check: func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < low || n > high {
			return fmt.Errorf("must be a whole number from %d to %d", low, high)
		}
		return nil
	}}
}

// duration takes spans such as 1m30s from low to high.
func duration(low, high time.Duration) kind {
	return kind{arg: "SPAN", check: func(text string) error {
		d, err := time.ParseDuration(text)
		if err != nil || d < low || d > high {
			return fmt.Errorf("must be a span from %s to %s, such as 10s or 1m30s", low, high)
		}
		return nil
	}}
}

// oneOf takes the given words only.
func oneOf(values ...string) kind {
	return kind{arg: strings.Join(values, "|"), values: values, check: among(values...)}
}

func among(values ...string) func(string) error {
	return func(text string) error {
		if slices.Contains(values, text) {
			return nil
		}
		return fmt.Errorf("must be %s", strings.Join(values, " or "))
	}
}

// identifier takes a node's name.
func identifier(arg string) kind {
	return kind{arg: arg, check: func(text string) error {
		if text == "" || validID(text) {
			return nil
		}
		return fmt.Errorf("must be 1 to %d letters, digits, dashes or underscores", maxIDLen)
	}}
}

func validID(s string) bool {
	return s != "" && len(s) <= maxIDLen && strings.Trim(s,
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

func checkAddress(text string) error {
	if text == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return errAddress
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errAddress
	}
	return nil
}

func checkAddresses(text string) error {
	for _, addr := range splitList(text) {
		if addr == "" || checkAddress(addr) != nil {
			return errAddress
		}
	}
	return nil
}

// parseNetworks reads CIDR,...; an empty text is an empty list.
func parseNetworks(text string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, item := range splitList(text) {
		p, err := netip.ParsePrefix(item)
		if err != nil {
			return nil, errNetwork
		}
		networks = append(networks, p.Masked())
	}
	return networks, nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return errURL
	}
	return nil
}

// member is one of a cluster's first nodes.
type member struct {
	id   string
	addr string // of its peer port
}

// parseMembers reads ID=ADDR,...; an empty text is an empty list.
func parseMembers(text string) ([]member, error) {
	var members []member
	for _, item := range splitList(text) {
		id, addr, ok := strings.Cut(item, "=")
		if !ok || !validID(id) || addr == "" || checkAddress(addr) != nil {
			return nil, errMembers
		}
		if slices.ContainsFunc(members, func(m member) bool { return m.id == id || m.addr == addr }) {
			return nil, errMembers
		}
		members = append(members, member{id, addr})
	}
	return members, nil
}

// seed is stock that dev creates.
type seed struct {
	sku   allocator.SKU
	units allocator.Quantity
}

// parseSeeds reads SKU=UNITS,... or "none".
func parseSeeds(text string) ([]seed, error) {
	if text == "none" {
		return nil, nil
	}
	var seeds []seed
	for _, item := range splitList(text) {
		name, count, ok := strings.Cut(item, "=")
		units, err := strconv.ParseInt(count, 10, 64)
		sku := allocator.SKU(name)
		if !ok || err != nil || units < 0 || units > allocator.MaxQuantity || !allocator.ValidSKU(sku) {
			return nil, errSeed
		}
		if slices.ContainsFunc(seeds, func(s seed) bool { return s.sku == sku }) {
			return nil, errSeed
		}
		seeds = append(seeds, seed{sku, allocator.Quantity(units)})
	}
	return seeds, nil
}

// splitList cuts a comma-separated list; an empty text has no items.
func splitList(text string) []string {
	if text == "" {
		return nil
	}
	items := strings.Split(text, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}
