#include "worker/link/router_session.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "common/clock.h"
#include "common/observe/log.h"
#include "worker/link/codec.h"

namespace tandem::link {
namespace {

constexpr size_t kBlocksPerChunk = 2048;  // 64 KB
constexpr size_t kMessageBlock = 4096;

}  // namespace

// One message at a time, on an arena whose one block grows to what a message takes: a message that
// is cleared gives its parts back, and a report has several for each sequence.
class RouterSession::MessageMemory {
 public:
  // The last one is gone.
  wire::FromWorker* NewMessage() {
    const auto used = arena_ ? static_cast<size_t>(arena_->SpaceAllocated()) : 0;
    arena_.reset();
    if (used > block_.size()) block_.resize(2 * used);
    google::protobuf::ArenaOptions options;
    options.initial_block = block_.data();
    options.initial_block_size = block_.size();
    arena_.emplace(options);
    return google::protobuf::Arena::CreateMessage<wire::FromWorker>(&*arena_);
  }

 private:
  std::vector<char> block_ = std::vector<char>(kMessageBlock);
  std::optional<google::protobuf::Arena> arena_;
};

void RouterSession::Backlog::Clear() {
  num_outputs = 0;
  inbox.clear();
  kv_events.clear();
  any = false;
  num_items = 0;
}

RouterSession::RouterSession(std::string name, const RouterLinkOptions& options,
                             const KvMirror& mirror, RouterLink::Stats& stats)
    : name_(std::move(name)),
      options_(options),
      mirror_(mirror),
      stats_(stats),
      memory_(std::make_unique<MessageMemory>()) {}

RouterSession::~RouterSession() = default;

Nanos RouterSession::next_tick() const {
  return state_ == State::kOpen ? last_heard_ + options_.router_silence : hello_due_;
}

void RouterSession::Receive(std::string_view bytes, Nanos now,
                            std::vector<engine::Inbound>& inbound) {
  wire::FromRouter message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      message.body_case() == wire::FromRouter::BODY_NOT_SET) {
    ++stats_.malformed;
    return;
  }
  switch (message.body_case()) {
    case wire::FromRouter::kWelcome:
      Welcomed(message, now);
      return;
    case wire::FromRouter::kRefuse:
      if (state_ == State::kHello) Refused(message.refuse().reason(), now);
      return;
    default:
      break;
  }
  if (state_ != State::kOpen || message.session() != session_) {
    ++stats_.wrong_session;
    return;
  }
  if (message.body_case() == wire::FromRouter::kReset) {
    Fail("the router does not know this session", now, inbound);
    return;
  }
  if (message.number() != last_received_ + 1) {
    Fail(fmt::format("message {} came after {}", message.number(), last_received_), now, inbound);
    return;
  }
  last_received_ = message.number();
  last_heard_ = now;
  Handle(message, inbound);
}

void RouterSession::Welcomed(const wire::FromRouter& message, Nanos now) {
  // A Welcome to a Hello that was sent twice, or to an attempt given up, changes nothing.
  if (state_ == State::kOpen || message.welcome().attempt() != attempt_) return;
  state_ = State::kOpen;
  session_ = message.session();
  router_ = message.welcome().router();
  credits_ = std::max<uint64_t>(1, message.welcome().credits());
  last_heard_ = now;
  refused_for_.clear();
  ForgetSession();
  ++stats_.sessions_opened;
  observe::LogInfo("router {} welcomes group {}", name_, options_.self.group);
}

void RouterSession::Refused(const std::string& reason, Nanos now) {
  state_ = State::kRefused;
  outgoing_.clear();
  hello_due_ = now + options_.refused_interval;
  ++attempt_;
  if (reason == refused_for_) return;
  refused_for_ = reason;
  observe::LogError("router {} refuses group {}: {}", name_, options_.self.group, reason);
}

void RouterSession::Handle(const wire::FromRouter& message, std::vector<engine::Inbound>& inbound) {
  switch (message.body_case()) {
    case wire::FromRouter::kGenerate:
      inbound.push_back(Decode(message.generate(), router_));
      break;
    case wire::FromRouter::kCancel: {
      const wire::Cancel& cancel = message.cancel();
      inbound.push_back(
          engine::Cancel{{router_, cancel.request(), cancel.attempt(), cancel.index()}});
      break;
    }
    case wire::FromRouter::kAck:
      acked_ = std::clamp(message.ack().processed(), acked_, last_sent_);
      break;
    case wire::FromRouter::kSnapshotRequest:
      if (snapshot_active_) break;  // the one under way answers this too
      snapshot_active_ = true;
      snapshot_ = mirror_.Snapshot();
      snapshot_as_of_ = mirror_.last_event();
      snapshot_next_ = 0;
      snapshot_chunk_ = 0;
      break;
    default:
      break;
  }
}

void RouterSession::ForgetSession() {
  last_sent_ = acked_ = last_received_ = 0;
  backlog_.Clear();
  snapshot_active_ = false;
  snapshot_.clear();
  draining_said_ = false;
  outgoing_.clear();
}

void RouterSession::Fail(const std::string& why, Nanos now, std::vector<engine::Inbound>& inbound) {
  observe::LogWarn("session with router {} ended: {}; its sequences are cancelled", name_, why);
  ++stats_.sessions_failed;
  inbound.push_back(engine::RouterLost{router_});
  ForgetSession();
  state_ = State::kHello;
  session_ = 0;
  router_ = 0;
  ++attempt_;
  // A router that ends every session would otherwise be asked as fast as it answers.
  hello_due_ = now + options_.hello_interval;
}

void RouterSession::Tick(Nanos now, std::vector<engine::Inbound>& inbound) {
  if (state_ == State::kOpen && now - last_heard_ > options_.router_silence) {
    Fail(fmt::format("nothing heard for {} ms", (now - last_heard_) / kMillisecond), now, inbound);
  }
  if (state_ == State::kRefused && now >= hello_due_) state_ = State::kHello;
}

// Tokens of one sequence that go out together are one entry.
void RouterSession::Backlog::Add(const engine::Output& output, Nanos waited, size_t hint) {
  const auto same = [&](const engine::Output& other) {
    return other.key == output.key &&
           output.first_index == other.first_index + static_cast<int32_t>(other.tokens.size());
  };
  const auto end = outputs.begin() + static_cast<ptrdiff_t>(num_outputs);
  auto at = outputs.begin() + static_cast<ptrdiff_t>(std::min(hint, num_outputs));
  if (!any) {
    at = end;  // nothing of another step is here
  } else if (at == end || !same(*at)) {
    at = std::find_if(outputs.begin(), end, same);
  }
  num_items += output.tokens.size();
  if (at == end) {
    if (num_outputs == outputs.size()) outputs.emplace_back();
    outputs[num_outputs++] = output;
    inbox.push_back(waited);
    ++num_items;
    return;
  }
  at->tokens.insert(at->tokens.end(), output.tokens.begin(), output.tokens.end());
  at->logprobs.insert(at->logprobs.end(), output.logprobs.begin(), output.logprobs.end());
  at->finish = output.finish;
  at->timings = output.timings;
  at->error = output.error;
  at->error_kind = output.error_kind;
}

void RouterSession::Add(const StepForRouters& from, Nanos now,
                        std::vector<engine::Inbound>& inbound) {
  if (state_ != State::kOpen) return;
  const StepOut& step = from.step;
  if (backlog_.any) ++stats_.coalesced;
  if (!backlog_.any) backlog_.committed_at = step.committed_at;
  for (size_t i = 0, ours = 0; i < step.outputs.size(); ++i) {
    if (step.outputs[i].key.router != router_) continue;
    backlog_.Add(step.outputs[i], from.inbox[i], ours++);
  }
  backlog_.kv_events.insert(backlog_.kv_events.end(), step.kv_events.begin(), step.kv_events.end());
  backlog_.num_items += step.kv_events.size();
  backlog_.load = step.load;
  // One of them is all that a report has room for: decodes are seen often enough.
  if (!backlog_.any || step.timing.prefill_tokens >= backlog_.timing.prefill_tokens) {
    backlog_.timing = step.timing;
  }
  backlog_.next_within = step.next_within;
  const auto last = from.last_request.find(router_);
  backlog_.last_request = last == from.last_request.end() ? 0 : last->second;
  backlog_.any = true;
  if (backlog_.num_items > options_.max_backlog_items) {
    Fail(fmt::format("the router does not read: {} tokens and events wait for it",
                     backlog_.num_items),
         now, inbound);
  }
}

void RouterSession::AddDraining() { draining_ = true; }

void RouterSession::AddGoodbye(const std::string& reason) {
  goodbye_asked_ = true;
  goodbye_ = reason;
}

std::string_view RouterSession::Outgoing(Nanos now) {
  if (outgoing_.empty()) {
    if (state_ == State::kHello && now >= hello_due_ && !goodbye_asked_) EncodeHello();
    if (state_ == State::kOpen && !goodbye_sent_) (void)EncodeNext(now);
  }
  return outgoing_;
}

void RouterSession::Sent(Nanos now) {
  outgoing_.clear();
  if (state_ == State::kHello) hello_due_ = now + options_.hello_interval;
  if (outgoing_is_goodbye_) goodbye_sent_ = true;
}

void RouterSession::EncodeHello() {
  message_ = memory_->NewMessage();
  wire::Hello& hello = *message_->mutable_hello();
  Encode(options_.self, hello);
  hello.set_attempt(attempt_);
  hello.set_last_event(mirror_.last_event());
  message_->SerializeToString(&outgoing_);
}

// Goodbye and Draining need no credit: they are one each.
bool RouterSession::EncodeNext(Nanos now) {
  const bool report = backlog_.any && (HasCredit() || goodbye_asked_);
  if (!report && !goodbye_asked_ && (!draining_ || draining_said_) &&
      (!snapshot_active_ || !HasCredit())) {
    return false;
  }
  StartMessage();
  if (report) {
    EncodeReport(now);
  } else if (goodbye_asked_) {
    message_->mutable_goodbye()->set_reason(goodbye_);
    outgoing_is_goodbye_ = true;
  } else if (draining_ && !draining_said_) {
    message_->mutable_draining();
    draining_said_ = true;
  } else {
    EncodeSnapshotChunk();
  }
  FinishMessage();
  return true;
}

void RouterSession::StartMessage() {
  message_ = memory_->NewMessage();
  message_->set_session(session_);
  message_->set_number(++last_sent_);
}

void RouterSession::FinishMessage() { message_->SerializeToString(&outgoing_); }

void RouterSession::EncodeReport(Nanos now) {
  wire::StepReport& report = *message_->mutable_step();
  for (size_t i = 0; i < backlog_.num_outputs; ++i) {
    Encode(backlog_.outputs[i], backlog_.inbox[i], *report.add_sequences());
  }
  // Without events, the number of the next one: a router that lacks some, because they came before
  // its Welcome was here, sees it by that.
  report.mutable_kv_events()->set_first_number(mirror_.last_event() + 1);
  if (!backlog_.kv_events.empty()) Encode(backlog_.kv_events, *report.mutable_kv_events());
  Encode(backlog_.load, *report.mutable_load());
  Encode(backlog_.timing, *report.mutable_timing());
  report.set_last_request_seen(backlog_.last_request);
  report.set_outbox(now - backlog_.committed_at);
  report.set_next_within(backlog_.next_within);
  backlog_.Clear();
}

void RouterSession::EncodeSnapshotChunk() {
  wire::SnapshotChunk& chunk = *message_->mutable_snapshot();
  const size_t count = std::min(kBlocksPerChunk, snapshot_.size() - snapshot_next_);
  chunk.set_as_of(snapshot_as_of_);
  chunk.set_chunk(snapshot_chunk_++);
  Encode(std::span(snapshot_).subspan(snapshot_next_, count), chunk);
  snapshot_next_ += count;
  if (snapshot_next_ < snapshot_.size()) return;
  chunk.set_last(true);
  snapshot_active_ = false;
  snapshot_.clear();
}

}  // namespace tandem::link
