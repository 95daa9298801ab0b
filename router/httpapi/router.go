package httpapi

import (
	"context"
	"time"

	"stockade/allocator"
	"stockade/router"
)

var (
	_ Seller        = (*router.Router)(nil)
	_ Administrator = (*router.Router)(nil)
)

// Seller is what the data port asks of the router. Every method honours the
// context's deadline; the errors are those of package router. Implementations
// are safe for concurrent use.
type Seller interface {
	Reserve(ctx context.Context, r router.ReserveRequest) (router.Reserved, error)
	ReserveBatch(ctx context.Context, rs []router.ReserveRequest) []router.ReserveOutcome
	Confirm(ctx context.Context, id allocator.ReservationID, lines []router.Line) (router.Reserved, error)
	Cancel(ctx context.Context, id allocator.ReservationID) (router.Reserved, error)
	Extend(ctx context.Context, id allocator.ReservationID, ttl time.Duration) (router.Reserved, error)
	Return(ctx context.Context, id allocator.ReservationID, lines []router.Line, key string) (router.Reserved, error)
	Actions(ctx context.Context, actions []router.Action) []router.ReserveOutcome
	Reservation(ctx context.Context, id allocator.ReservationID) (allocator.Reservation, error)
	Availability(ctx context.Context, sku string, strong bool) (router.Availability, error)
	Nodes(ctx context.Context) (router.ClusterView, error)
}

// Administrator is what the ops port asks of the router, under the same terms.
type Administrator interface {
	PutSKU(ctx context.Context, r router.PutSKURequest) (router.PutResult, error)
	SKU(ctx context.Context, sku string, strong bool) (router.SKUView, error)
	SKUs(ctx context.Context, prefix, cursor string, limit int) (router.SKUPage, error)
	AvailableOf(ctx context.Context, skus []allocator.SKU) (map[allocator.SKU]int64, error)
	Restock(ctx context.Context, sku string, quantity int64, reference, key string) (router.StockResult, error)
	Adjust(ctx context.Context, sku string, delta int64, reason, key string) (router.StockResult, error)
	SetPaused(ctx context.Context, sku string, paused bool) (router.StockResult, error)
	Availability(ctx context.Context, sku string, strong bool) (router.Availability, error)
	Audit(ctx context.Context, sku string) (router.Audit, error)
	Cluster(ctx context.Context) (router.ClusterView, error)
}
