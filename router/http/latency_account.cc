#include "router/http/latency_account.h"

#include <fmt/format.h>

#include <iterator>

namespace tandem::http {
namespace {

void Append(std::string& out, std::string_view name, Nanos duration) {
  fmt::format_to(std::back_inserter(out), "{}\"{}_us\":{:.1f}", out.back() == '{' ? "" : ",", name,
                 static_cast<double>(duration) / kMicrosecond);
}

void AppendCount(std::string& out, std::string_view name, int64_t count) {
  fmt::format_to(std::back_inserter(out), ",\"{}\":{}", name, count);
}

}  // namespace

Nanos LatencyAccount::Sum() const {
  return read + parse + text_wait + render + tokenize + admission + route + lost + wire +
         worker.inbox + worker.queue + worker.prefill + worker.waiting + worker.decode +
         worker.preempted + worker.outbox + deliver + detokenize + flush;
}

std::string LatencyAccount::Json() const {
  std::string out = "{";
  Append(out, "ttft", Ttft());
  out += ",\"parts\":{";
  Append(out, "read", read);
  Append(out, "parse", parse);
  Append(out, "text_wait", text_wait);
  Append(out, "template", render);
  Append(out, "tokenize", tokenize);
  Append(out, "admission", admission);
  Append(out, "route", route);
  Append(out, "lost_attempts", lost);
  Append(out, "wire", wire);
  Append(out, "inbox", worker.inbox);
  Append(out, "queue", worker.queue);
  Append(out, "prefill", worker.prefill);
  Append(out, "waiting", worker.waiting);
  Append(out, "decode", worker.decode);
  Append(out, "preempted", worker.preempted);
  Append(out, "outbox", worker.outbox);
  Append(out, "deliver", deliver);
  Append(out, "detokenize", detokenize);
  Append(out, "flush", flush);
  out += "}";
  Append(out, "residual", Residual());
  out += ",\"total\":{";
  Append(out, "elapsed", ended - received);
  Append(out, "queue", total_worker.queue);
  Append(out, "prefill", total_worker.prefill);
  Append(out, "waiting", total_worker.waiting);
  Append(out, "decode", total_worker.decode);
  Append(out, "preempted", total_worker.preempted);
  AppendCount(out, "num_preemptions", total_worker.num_preemptions);
  AppendCount(out, "num_cached_tokens", total_worker.num_cached_tokens);
  AppendCount(out, "num_computed_tokens", total_worker.num_computed_tokens);
  AppendCount(out, "num_attempts", num_attempts);
  out += "}}";
  return out;
}

}  // namespace tandem::http
