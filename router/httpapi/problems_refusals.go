package httpapi

import (
	"net/http"

	"stockade/allocator"
	"stockade/router/api"
)

// refusals are the outcomes of commands that may leave the cluster, except OK.
var refusals = []problem{
	refusal(allocator.CodeKeyReused, http.StatusUnprocessableEntity, 0, api.Explanation{
		Title: "The idempotency key stands for another request",
		What:  "This Idempotency-Key was used before (by the same buyer, if there is one) for a request with another body.",
		Done:  "Nothing was changed by this request. What the first one did stands.",
		Retry: dontRetry,
		Do:    "Take a new key for a new request. To repeat the first one, send exactly its body.",
	}),
	refusal(allocator.CodeKeyExpired, http.StatusUnprocessableEntity, 0, api.Explanation{
		Title: "The idempotency key is too old",
		What:  "The key tells when it was made (UUIDv7, ULID), and that is longer ago than finished requests are remembered. Whether it was used before can't be known any more.",
		Done:  "Nothing was changed by this request. An earlier one with the same key may have been done.",
		Retry: dontRetry,
		Do:    "Find out what became of the first request, by its reservation id or its reference in your own records; then use a new key if you still want it. retention_seconds in GET /v1/cluster says how long keys are remembered.",
	}),
	refusal(allocator.CodeReservationNotFound, http.StatusNotFound, 0, api.Explanation{
		Title: "There is no such reservation",
		What:  "No reservation has this id, or it ended longer ago than finished reservations are kept. An id has a checksum: a mistyped one is never another reservation, nor is one of another cluster.",
		Done:  nothingChanged,
		Retry: dontRetry,
		Do:    "Check the id. retention_seconds in GET /v1/cluster says how long finished reservations are kept.",
	}),
	refusal(allocator.CodeReservationCanceled, http.StatusConflict, showReservation, api.Explanation{
		Title: "The reservation was canceled",
		What:  "The reservation was canceled before, and its units are back on sale.",
		Done:  nothingChanged,
		Retry: yourDecision,
		Do:    "Make a new reservation if the units are still wanted.",
	}),
	refusal(allocator.CodeReservationConfirmed, http.StatusConflict, showReservation, api.Explanation{
		Title: "The reservation was confirmed",
		What:  "The reservation was confirmed before: its units are sold, so it can't be canceled or extended.",
		Done:  nothingChanged,
		Retry: yourDecision,
		Do:    "To take units back, use /return.",
	}),
	refusal(allocator.CodeReservationNotConfirmed, http.StatusConflict, showReservation, api.Explanation{
		Title: "The reservation was not confirmed",
		What:  "Only units of a confirmed reservation can be returned.",
		Done:  nothingChanged,
		Retry: yourDecision,
		Do:    "To give up a reservation that is open, cancel it. One that was canceled or has expired holds nothing.",
	}),
	refusal(allocator.CodeLinesExceedReservation, http.StatusBadRequest, showSKU|showRequested|showAvailable, api.Explanation{
		Title: "The reservation does not hold that much",
		What:  "A line asks for more units than the reservation has of the SKU, or for a SKU that is not in it.",
		Done:  nothingChanged,
		Retry: dontRetry,
		Do:    "Read the reservation and send lines that fit, or leave lines out for all of it.",
	}).at("/lines"),
	refusal(allocator.CodeReservationExpired, http.StatusGone, showReservation|showSKU|showRequested|showAvailable, api.Explanation{
		Title: "The reservation has expired",
		What:  "Its time ran out, and its units are back on sale. For a confirm: either the SKU's policy rejects late confirms, or the units are not there any more.",
		Done:  nothingChanged,
		Retry: yourDecision,
		Do:    "Make a new reservation if the units are still wanted; extend reservations earlier or ask for a longer ttl_seconds.",
	}),
	refusal(allocator.CodeSKUNotFound, http.StatusNotFound, showSKU, api.Explanation{
		Title: "There is no such SKU",
		What:  "Nobody has created this SKU.",
		Done:  nothingChanged,
		Retry: dontRetry,
		Do:    "Check the spelling; capital and small letters differ. Create it with PUT /v1/skus/{sku} and on_hand on the ops port.",
	}),
	refusal(allocator.CodePreconditionFailed, http.StatusPreconditionFailed, showSKU, api.Explanation{
		Title: "The SKU is not in the state that was asked for",
		What:  "If-Match named another version than the SKU has, or If-None-Match: * was given and the SKU exists.",
		Done:  nothingChanged,
		Retry: dontRetry,
		Do:    "Read the SKU again, apply your change to what it says now, and send it with the new ETag.",
	}),
	refusal(allocator.CodeSKUExists, http.StatusConflict, showSKU, api.Explanation{
		Title: "The SKU exists",
		What:  "on_hand is only for creating a SKU, and this one exists.",
		Done:  nothingChanged,
		Retry: yourDecision,
		Do:    "Leave on_hand out to change the policy. To add units use /restock, to correct the count use /adjust.",
	}),
	refusal(allocator.CodeSKUPaused, http.StatusConflict, showSKU, api.Explanation{
		Title: "The sale is paused",
		What:  "The sale of this SKU was paused by its owner.",
		Done:  nothingChanged,
		Retry: yourDecision,
		Do:    "Wait until it is resumed, with POST /v1/skus/{sku}/resume on the ops port.",
	}),
	refusal(allocator.CodeSaleNotOpen, http.StatusConflict, showSKU, api.Explanation{
		Title: "The sale is not open",
		What:  "The sale of this SKU has not begun yet, or is over: see sale_starts_at and sale_ends_at of the SKU.",
		Done:  nothingChanged,
		Retry: yourDecision,
		Do:    "Come back when the sale opens.",
	}),
	refusal(allocator.CodeQuantityLimitExceeded, http.StatusConflict, showSKU|showRequested|showLimit, api.Explanation{
		Title: "That is more than one request may have",
		What:  "The quantity is over the SKU's max_per_reservation or, for a deposit, would bring the SKU beyond 1,000,000,000,000 units.",
		Done:  nothingChanged,
		Retry: yourDecision,
		Do:    "Ask for fewer: limit says how many one reservation, or the SKU, may have.",
	}),
	refusal(allocator.CodeTTLLimitExceeded, http.StatusBadRequest, showSKU|showRequested|showLimit, api.Explanation{
		Title: "The reservation would live too long",
		What:  "ttl_seconds is more than the SKU's max_ttl_seconds. requested and limit are in seconds.",
		Done:  nothingChanged,
		Retry: dontRetry,
		Do:    "Ask for at most max_ttl_seconds, and extend while the buyer is still there.",
	}).at("/ttl_seconds"),
	refusal(allocator.CodeBuyerLimitExceeded, http.StatusConflict, showSKU|showRequested|showAvailable|showLimit, api.Explanation{
		Title: "The buyer would have more than one buyer may",
		What:  "With this request the buyer would hold and own more than the SKU's max_per_buyer. available says how many more the buyer may take.",
		Done:  nothingChanged,
		Retry: yourDecision,
		Do:    "Ask for at most available units, or cancel the buyer's open reservations first.",
	}),
	refusal(allocator.CodeInsufficientStock, http.StatusConflict, showSKU|showRequested|showAvailable, api.Explanation{
		Title: "There is not enough stock",
		What:  "Fewer units are for sale than were asked for, on all shards together.",
		Done:  nothingChanged,
		Retry: "Not as it is, though a later try may succeed: units come back when reservations expire or are canceled.",
		Do:    "Ask for fewer units, or tell the buyer that it is sold out.",
	}),
	refusal(allocator.CodeBelowReserved, http.StatusConflict, showSKU|showRequested|showAvailable, api.Explanation{
		Title: "The units are reserved or sold",
		What:  "The adjustment or the higher safety stock needs units that are reserved or committed. Only available units can be taken.",
		Done:  nothingChanged,
		Retry: yourDecision,
		Do:    "Take at most available units, or pause the sale and wait until reservations end.",
	}),
}
