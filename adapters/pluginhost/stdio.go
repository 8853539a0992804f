package pluginhost

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

// readStdio logs what a Go plugin prints. go-plugin's server puts pipes in the place of its
// standard output and error, and whoever prints waits until somebody reads these by gRPC. A
// plugin that has no such service keeps its own. It returns when the connection is closed.
func readStdio(conn *grpc.ClientConn, out *logs) {
	stream, err := conn.NewStream(context.Background(), &grpc.StreamDesc{ServerStreams: true}, "/plugin.GRPCStdio/StreamStdio")
	if err != nil || stream.SendMsg(&emptypb.Empty{}) != nil || stream.CloseSend() != nil {
		return
	}
	for {
		// go-plugin's message is in a package of its own (internal/plugin, StdioData): its
		// data, field 2, is here one of those that Empty does not know.
		m := new(emptypb.Empty)
		if stream.RecvMsg(m) != nil {
			return
		}
		rest := []byte(m.ProtoReflect().GetUnknown())
		for len(rest) > 0 {
			num, kind, n := protowire.ConsumeTag(rest)
			if n < 0 {
				break
			}
			rest = rest[n:]
			if n = protowire.ConsumeFieldValue(num, kind, rest); n < 0 {
				break
			}
			if data, m := protowire.ConsumeBytes(rest); num == 2 && kind == protowire.BytesType && m > 0 {
				out.Write(data)
			}
			rest = rest[n:]
		}
	}
}
