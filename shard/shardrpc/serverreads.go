package shardrpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"stockade/shard/shardrpc/internal/pb"
)

// Buckets implements the service.
func (s *server) Buckets(ctx context.Context, m *pb.BucketsRequest) (*pb.BucketsReply, error) {
	r, err := bucketsRequestFrom(m)
	if err != nil {
		return nil, toStatus(err)
	}
	answers, err := s.node.Buckets(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	return bucketsReplyTo(answers), nil
}

// Exist implements the service.
func (s *server) Exist(ctx context.Context, m *pb.ExistRequest) (*pb.ExistReply, error) {
	r, err := existRequestFrom(m)
	if err != nil {
		return nil, toStatus(err)
	}
	answer, err := s.node.Exist(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	return existReplyTo(answer), nil
}

// Levels implements the service. Each request is answered before the next is
// read: whoever asks sets the pace.
func (s *server) Levels(stream pb.Shards_LevelsServer) error {
	levels, err := s.node.Levels(stream.Context())
	if err != nil {
		return toStatus(err)
	}
	defer levels.Close()
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := answerLevels(stream, levels, m); err != nil {
			return toStatus(err)
		}
	}
}

func answerLevels(stream pb.Shards_LevelsServer, levels LevelStream, m *pb.LevelsRequest) error {
	r, err := levelsRequestFrom(m)
	if err != nil {
		return err
	}
	reply, err := levels.Poll(stream.Context(), r)
	if err != nil {
		return err
	}
	return stream.Send(levelsReplyTo(reply))
}

// Reservation implements the service.
func (s *server) Reservation(ctx context.Context, m *pb.ReservationRequest) (*pb.ReservationReply, error) {
	r, err := reservationRequestFrom(m)
	if err != nil {
		return nil, toStatus(err)
	}
	answer, err := s.node.Reservation(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	return reservationReplyTo(answer), nil
}

// SKUs implements the service.
func (s *server) SKUs(ctx context.Context, m *pb.SKUsRequest) (*pb.SKUsReply, error) {
	r, err := skusRequestFrom(m)
	if err != nil {
		return nil, toStatus(err)
	}
	answer, err := s.node.SKUs(ctx, r)
	if err != nil {
		return nil, toStatus(err)
	}
	return skusReplyTo(answer), nil
}

// Status implements the service.
func (s *server) Status(ctx context.Context, _ *pb.StatusRequest) (*pb.StatusReply, error) {
	self, err := s.checkPeer(ctx)
	if err != nil {
		return nil, err
	}
	return statusReplyTo(self), nil
}

// toStatus gives an error its gRPC code. The client only tells errors from
// answers; the code is for whoever watches the wire.
func toStatus(err error) error {
	switch {
	case errors.Is(err, errMessage):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	}
	return status.Error(codes.Unavailable, err.Error())
}
