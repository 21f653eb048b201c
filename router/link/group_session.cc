#include "router/link/group_session.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "proto/tandem.pb.h"

namespace tandem::link {
namespace {

constexpr uint32_t kProtocolMajor = 3;

BlockHash HashAt(const google::protobuf::RepeatedField<uint64_t>& words, int i) {
  return {words.Get(i), words.Get(i + 1)};
}

routing::FinishReason FromWire(wire::Finish finish) {
  switch (finish) {
    case wire::RUNNING:
      return routing::FinishReason::kNone;
    case wire::STOP:
      return routing::FinishReason::kStop;
    case wire::LENGTH:
      return routing::FinishReason::kLength;
    case wire::CANCELLED:
      return routing::FinishReason::kCancelled;
    case wire::DEADLINE:
      return routing::FinishReason::kDeadline;
    default:
      return routing::FinishReason::kError;
  }
}

wire::Pooling ToWire(routing::Pooling pooling) {
  switch (pooling) {
    case routing::Pooling::kNone:
      return wire::TOKENS;
    case routing::Pooling::kLast:
      return wire::LAST_STATE;
    case routing::Pooling::kMean:
      return wire::MEAN_STATE;
  }
  return wire::TOKENS;
}

routing::ErrorKind FromWire(wire::ErrorKind kind) {
  switch (kind) {
    case wire::INVALID:
      return routing::ErrorKind::kInvalid;
    case wire::BUSY:
      return routing::ErrorKind::kBusy;
    case wire::GRAMMAR:
      return routing::ErrorKind::kGrammar;
    default:  // a later minor version may know others
      return routing::ErrorKind::kInternal;
  }
}

routing::WorkerTimings FromWire(const wire::Timings& from, Nanos outbox) {
  routing::WorkerTimings to;
  to.queue = from.queue();
  to.prefill = from.prefill();
  to.waiting = from.waiting();
  to.decode = from.decode();
  to.preempted = from.preempted();
  to.inbox = from.inbox();
  to.outbox = outbox;
  to.num_preemptions = from.num_preemptions();
  to.num_cached_tokens = from.num_cached_tokens();
  to.num_computed_tokens = from.num_computed_tokens();
  return to;
}

// The rows' most likely tokens lie one after another. Rows that are not all there are left out.
std::vector<routing::TokenLogprob> FromWireLogprobs(const wire::Sequence& from) {
  std::vector<routing::TokenLogprob> rows;
  const int tops = std::min(from.top_ids_size(), from.top_logprobs_size());
  int next = 0;
  for (int i = 0; i < std::min(from.logprobs_size(), from.num_top_size()); ++i) {
    const int num_top = from.num_top(i);
    if (num_top < 0 || num_top > tops - next) break;
    routing::TokenLogprob& row = rows.emplace_back();
    row.logprob = from.logprobs(i);
    for (int t = 0; t < num_top; ++t, ++next) {
      row.top.push_back({from.top_ids(next), from.top_logprobs(next)});
    }
  }
  return rows;
}

void FromWire(const wire::StepReport& report, routing::GroupLoad& to) {
  const wire::Load& from = report.load();
  to.num_running = from.num_running();
  to.num_waiting = from.num_waiting();
  to.queued_tokens = from.queued_tokens();
  to.context_tokens = from.context_tokens();
  to.free_blocks = from.free_blocks();
  to.total_blocks = from.total_blocks();
  to.queue.clear();
  const int entries =
      std::min({from.remaining_tokens_size(), from.prompt_tokens_size(), from.age_size()});
  for (int i = 0; i < entries; ++i) {
    to.queue.push_back({from.remaining_tokens(i), from.prompt_tokens(i), from.age(i),
                        i < from.priority_size() ? from.priority(i) : 0});
  }
  to.last_request_seen = report.last_request_seen();
  to.step = report.timing().step();
  to.step_duration = report.timing().duration();
  to.step_prefill_tokens = report.timing().prefill_tokens();
  to.step_decodes = report.timing().num_decodes();
  to.step_prefill_attention = report.timing().prefill_attention();
  to.step_context_tokens = report.timing().context_tokens();
  to.in_flight = {.num_steps = from.steps_in_flight(),
                  .elapsed = from.elapsed_in_flight(),
                  .prefill_tokens = from.prefill_tokens_in_flight(),
                  .num_decodes = from.decodes_in_flight(),
                  .prefill_attention = from.prefill_attention_in_flight(),
                  .context_tokens = from.context_tokens_in_flight()};
}

// A field of Protobuf that has a length: what stands before its bytes.
void AppendFieldHead(std::string& out, int field, size_t length) {
  using google::protobuf::internal::WireFormatLite;
  std::array<uint8_t, 16> head;
  uint8_t* end = WireFormatLite::WriteTagToArray(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED,
                                                 head.data());
  end = google::protobuf::io::CodedOutputStream::WriteVarint32ToArray(static_cast<uint32_t>(length),
                                                                      end);
  out.append(reinterpret_cast<const char*>(head.data()), static_cast<size_t>(end - head.data()));
}

// A packed field of int32, without its head.
std::string Packed(std::span<const TokenId> ids) {
  constexpr size_t kMost = 10;  // bytes of one
  std::array<uint8_t, 4096> part;
  std::string out;
  out.reserve(ids.size() * 3);  // of a vocabulary of two million
  uint8_t* end = part.data();
  const auto flush = [&] {
    out.append(reinterpret_cast<const char*>(part.data()), static_cast<size_t>(end - part.data()));
    end = part.data();
  };
  for (const TokenId id : ids) {
    end = google::protobuf::io::CodedOutputStream::WriteVarint64ToArray(
        static_cast<uint64_t>(int64_t{id}), end);
    if (end + kMost > part.data() + part.size()) flush();
  }
  flush();
  return out;
}

}  // namespace

bool KvEventStream::Take(const wire::KvEvents& events, std::vector<routing::KvEvent>& out) {
  uint64_t number = events.first_number();
  int word = 0;
  out.reserve(out.size() + events.kinds().size());
  for (const char kind : events.kinds()) {
    if (kind < 0 || kind > 2) return false;
    routing::KvEvent event;
    event.number = number++;
    event.kind = static_cast<routing::KvEvent::Kind>(kind);
    const int needed = event.kind == routing::KvEvent::Kind::kStored    ? 4
                       : event.kind == routing::KvEvent::Kind::kRemoved ? 2
                                                                        : 0;
    if (events.words_size() - word < needed) return false;
    if (needed >= 2) event.hash = HashAt(events.words(), word);
    if (needed == 4) event.parent = HashAt(events.words(), word + 2);
    word += needed;
    Accept(event, out);
  }
  if (!waiting() && number > last_ + 1) FoundGap(out);  // some came before the session
  return word == events.words_size();
}

void KvEventStream::Accept(const routing::KvEvent& event, std::vector<routing::KvEvent>& out) {
  if (!waiting() && event.number == last_ + 1) {
    last_ = event.number;
    Emit(event, out);
    return;
  }
  if (!waiting() && event.number <= last_) return;
  if (!waiting()) FoundGap(out);
  held_.push_back(event);
}

// What the group holds is unknown from here on, until the snapshot is there.
void KvEventStream::FoundGap(std::vector<routing::KvEvent>& out) {
  wants_snapshot_ = true;
  Emit({.number = 0, .kind = routing::KvEvent::Kind::kCleared, .hash = {}, .parent = {}}, out);
}

void KvEventStream::Emit(routing::KvEvent event, std::vector<routing::KvEvent>& out) {
  event.number = ++delivered_;
  out.push_back(event);
}

bool KvEventStream::TakeSnapshotRequest() {
  if (!wants_snapshot_ || asked_) return false;
  wants_snapshot_ = false;
  asked_ = true;
  blocks_.clear();
  next_chunk_ = 0;
  return true;
}

bool KvEventStream::Take(const wire::SnapshotChunk& chunk, std::vector<routing::KvEvent>& out) {
  if (!asked_ || chunk.chunk() != next_chunk_ || chunk.words_size() % 4 != 0) return false;
  ++next_chunk_;
  for (int i = 0; i < chunk.words_size(); i += 4) {
    routing::KvEvent& event = blocks_.emplace_back();
    event.kind = routing::KvEvent::Kind::kStored;
    event.hash = HashAt(chunk.words(), i);
    event.parent = HashAt(chunk.words(), i + 2);
  }
  if (!chunk.last()) return true;
  asked_ = false;
  for (const routing::KvEvent& block : blocks_) Emit(block, out);
  blocks_.clear();
  last_ = chunk.as_of();
  // Those up to `as_of` are in the snapshot; a gap after it asks for another one.
  for (const routing::KvEvent& event : std::exchange(held_, {})) Accept(event, out);
  return true;
}

std::string RefusalOf(const wire::Hello& hello, const GroupLinkOptions& options) {
  if (hello.major() != kProtocolMajor) {
    return fmt::format("group {} speaks protocol {}, this router {}; install one version on both",
                       hello.group(), hello.major(), kProtocolMajor);
  }
  const auto model = options.models.find(hello.model());
  if (!options.models.empty() && model == options.models.end()) {
    return fmt::format(
        "group {} serves the model '{}', which this router does not; give both the same cluster "
        "file",
        hello.group(), hello.model());
  }
  if (model != options.models.end() && hello.fingerprint() != model->second) {
    return fmt::format(
        "group {} serves '{}' with fingerprint {}, this router's tokenizer of it has {}; give both "
        "the same model file",
        hello.group(), hello.model(), hello.fingerprint(), model->second);
  }
  if (hello.group().empty() || hello.block_size() <= 0 || hello.max_context() <= 0) {
    return fmt::format("group '{}' does not say what it is", hello.group());
  }
  return "";
}

GroupSession::GroupSession(GroupId id, const wire::Hello& hello, Nonce session,
                           GroupLink::Stats& stats, Nanos now)
    : session_(session),
      attempt_(hello.attempt()),
      stats_(stats),
      events_(hello.last_event()),
      last_report_(now),
      next_within_(hello.watchdog()) {
  info_.id = id;
  info_.name = hello.group();
  info_.incarnation = hello.incarnation();
  info_.model = hello.model();
  info_.fingerprint = hello.fingerprint();
  info_.hash_seed = hello.hash_seed();
  info_.block_size = hello.block_size();
  info_.tp = hello.tp();
  info_.dtype = hello.dtype();
  info_.device_class = hello.device_class();
  info_.max_context = hello.max_context();
  info_.max_seqs = hello.max_seqs();
  info_.max_step_tokens = hello.max_step_tokens();
  info_.num_blocks = hello.num_blocks();
  info_.embedding_size = hello.embedding_size();
  info_.watchdog = hello.watchdog();
}

Status GroupSession::CheckNumber(uint64_t number, Nanos now) {
  if (number != received_ + 1) {
    return Internal("message {} came after {}: some were lost on the way", number, received_);
  }
  received_ = number;
  last_report_ = now;
  return OkStatus();
}

Status GroupSession::Take(const wire::StepReport& report, Nanos now, routing::StepReport& out,
                          std::vector<std::string>& answers) {
  next_within_ = report.next_within();
  out.group = info_.id;
  out.received_at = now;
  FromWire(report, load_);
  load_at_ = now;
  out.load = load_;
  if (!events_.Take(report.kv_events(), out.kv_events)) return Internal("malformed KV events");
  AskForSnapshot(answers);
  out.sequences.reserve(static_cast<size_t>(report.sequences_size()));
  for (const wire::Sequence& from : report.sequences()) {
    routing::SequenceTokens to;
    if (TakeSequence(from, report.outbox(), to, answers)) out.sequences.push_back(std::move(to));
  }
  return OkStatus();
}

StatusOr<bool> GroupSession::Take(const wire::SnapshotChunk& chunk, Nanos now,
                                  routing::StepReport& out, std::vector<std::string>& answers) {
  if (!events_.Take(chunk, out.kv_events)) return Internal("malformed snapshot");
  AskForSnapshot(answers);
  out.group = info_.id;
  out.received_at = now;
  out.load = load_;
  out.load.in_flight.elapsed += now - load_at_;
  out.load.step = 0;  // not a step of its own
  out.load.step_duration = 0;
  out.load.step_prefill_tokens = out.load.step_decodes = 0;
  out.load.step_prefill_attention = out.load.step_context_tokens = 0;
  return !out.kv_events.empty();
}

void GroupSession::AskForSnapshot(std::vector<std::string>& answers) {
  if (!events_.TakeSnapshotRequest()) return;
  ++stats_.snapshots;
  wire::FromRouter message;
  message.mutable_snapshot_request();
  answers.push_back(Encode(message));
}

bool GroupSession::TakeSequence(const wire::Sequence& from, Nanos outbox,
                                routing::SequenceTokens& to, std::vector<std::string>& answers) {
  const auto it = next_index_.find({from.request(), from.attempt(), from.index()});
  if (it == next_index_.end()) {
    ++stats_.unknown_sequence;
    return false;
  }
  to.request = from.request();
  to.attempt = from.attempt();
  to.index = from.index();
  to.timings = FromWire(from.timings(), outbox);
  const int32_t due = it->second;
  to.first_index = due;
  if (from.first_index() > due) {
    ++stats_.token_gaps;
    to.finish = routing::FinishReason::kError;
    to.error = fmt::format("tokens {} to {} were lost between worker and router", due,
                           from.first_index() - 1);
    answers.push_back(EncodeCancel(from.request(), from.attempt(), from.index()));
    next_index_.erase({from.request(), from.attempt(), from.index()});
    return true;
  }
  const int known = std::min(due - from.first_index(), from.tokens_size());
  stats_.duplicate_tokens += static_cast<uint64_t>(known);
  to.tokens.assign(from.tokens().begin() + known, from.tokens().end());
  if (from.logprobs_size() > 0) {
    to.logprobs = FromWireLogprobs(from);
    to.logprobs.erase(to.logprobs.begin(),
                      to.logprobs.begin() + std::min<int>(known, std::ssize(to.logprobs)));
  }
  to.embedding.assign(from.embedding().begin(), from.embedding().end());
  to.finish = FromWire(from.finish());
  to.error = from.error();
  to.error_kind = FromWire(from.error_kind());
  it->second += static_cast<int32_t>(to.tokens.size());
  if (to.finish == routing::FinishReason::kNone) return !to.tokens.empty();
  next_index_.erase(it);
  return true;
}

std::string GroupSession::Encode(wire::FromRouter& message) {
  message.set_session(session_);
  message.set_number(++sent_);
  return message.SerializeAsString();
}

// The prompt apart: Protobuf would take a long one three times, for a copy, its size and its bytes.
std::string GroupSession::EncodeGenerate(const routing::GenerateRequest& from) {
  next_index_.insert_or_assign(Key{from.request, from.attempt, from.index}, 0);
  wire::Generate to;
  to.set_request(from.request);
  to.set_attempt(from.attempt);
  to.set_index(from.index);
  to.set_max_tokens(from.max_tokens);
  wire::Sampling& sampling = *to.mutable_sampling();
  sampling.set_temperature(from.temperature);
  sampling.set_top_p(from.top_p);
  sampling.set_min_p(from.min_p);
  sampling.set_top_k(from.top_k);
  sampling.set_seed(from.seed);
  sampling.set_num_logprobs(from.num_logprobs);
  if (from.repetition_penalty != 1) sampling.set_repetition_penalty(from.repetition_penalty);
  sampling.set_presence_penalty(from.presence_penalty);
  sampling.set_frequency_penalty(from.frequency_penalty);
  to.mutable_stop_ids()->Add(from.stop_ids.begin(), from.stop_ids.end());
  for (const auto& [token, bias] : from.logit_bias) {
    sampling.add_bias_ids(token);
    sampling.add_biases(bias);
  }
  to.set_min_tokens(from.min_tokens);
  to.mutable_forced()->Add(from.forced.begin(), from.forced.end());
  if (from.grammar.kind != grammar::GrammarSpec::Kind::kNone) {
    to.mutable_grammar()->set_kind(static_cast<uint32_t>(from.grammar.kind));
    to.mutable_grammar()->set_text(from.grammar.text);
  }
  to.set_cache_salt(from.cache_salt);
  to.set_priority(from.priority);
  to.set_deadline_in(from.deadline_in);
  to.set_pooling(ToWire(from.pooling));
  const std::string prompt = Packed(from.prompt);
  std::string body = to.SerializeAsString();
  AppendFieldHead(body, wire::Generate::kPromptFieldNumber, prompt.size());
  wire::FromRouter message;
  std::string bytes = Encode(message);
  bytes.reserve(bytes.size() + body.size() + prompt.size() + 16);
  AppendFieldHead(bytes, wire::FromRouter::kGenerateFieldNumber, body.size() + prompt.size());
  return bytes.append(body).append(prompt);
}

std::string GroupSession::EncodeCancel(RequestId request, uint32_t attempt, uint32_t index) {
  if (!next_index_.contains({request, attempt, index})) return "";
  wire::FromRouter message;
  wire::Cancel& cancel = *message.mutable_cancel();
  cancel.set_request(request);
  cancel.set_attempt(attempt);
  cancel.set_index(index);
  return Encode(message);
}

std::string GroupSession::EncodeAck() {
  wire::FromRouter message;
  message.mutable_ack()->set_processed(received_);
  acked_ = received_;
  return Encode(message);
}

std::string GroupSession::EncodeWelcome(Nonce router, uint32_t credits) const {
  wire::FromRouter message;
  message.set_session(session_);
  wire::Welcome& welcome = *message.mutable_welcome();
  welcome.set_attempt(attempt_);
  welcome.set_router(router);
  welcome.set_credits(credits);
  return message.SerializeAsString();
}

}  // namespace tandem::link
