package trace

import (
	"strconv"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// encode returns a batch in the form of OTLP. The servers of one process are services of their own,
// so that a trace shows the same with all servers in one process.
func (t *Tracer) encode(batch []span) *tracepb.TracesData {
	byRole := map[string]*tracepb.ScopeSpans{}
	data := &tracepb.TracesData{}
	for i := range batch {
		role := infos[batch[i].Stage].role
		spans := byRole[role]
		if spans == nil {
			spans = &tracepb.ScopeSpans{Scope: &commonpb.InstrumentationScope{Name: "teamtalk"}}
			byRole[role] = spans
			data.ResourceSpans = append(data.ResourceSpans, &tracepb.ResourceSpans{
				Resource: t.resource(role), ScopeSpans: []*tracepb.ScopeSpans{spans}})
		}
		spans.Spans = append(spans.Spans, t.span(&batch[i]))
	}
	return data
}

// resource describes a server of this process.
func (t *Tracer) resource(role string) *resourcepb.Resource {
	return &resourcepb.Resource{Attributes: []*commonpb.KeyValue{
		text("service.name", "teamtalk-"+role), text("service.namespace", "teamtalk"),
		text("service.instance.id", t.opt.Node), text("service.version", t.opt.Version),
	}}
}

// span returns one span in the form of OTLP.
func (t *Tracer) span(s *span) *tracepb.Span {
	info := &infos[s.Stage]
	salt := uint64(0)
	if info.many {
		salt = t.salt + s.Instance
	}
	id := spanID(s.trace, s.Stage, salt)
	// The duration is that of the monotonic clock: a step of the wall clock does not change it.
	begin := wall(s.Begin)
	p := &tracepb.Span{TraceId: s.trace[:], SpanId: id[:], Name: info.name, Kind: info.kind,
		Flags:             1, // sampled
		StartTimeUnixNano: begin, EndTimeUnixNano: begin + uint64(max(0, s.End.Sub(s.Begin))),
		Attributes: []*commonpb.KeyValue{
			text("messaging.system", "teamtalk"),
			text("messaging.message.id", strconv.FormatUint(uint64(s.Message.ID), 10)),
		}}
	if info.parent != 0 {
		parent := spanID(s.trace, info.parent, 0)
		p.ParentSpanId = parent[:]
	}
	if info.count != "" {
		p.Attributes = append(p.Attributes, number(info.count, int64(s.Count)))
	}
	return p
}

// wall returns a time as collectors take it: in nanoseconds since 1970.
func wall(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{
		Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

func number(key string, value int64) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{
		Value: &commonpb.AnyValue_IntValue{IntValue: value}}}
}
