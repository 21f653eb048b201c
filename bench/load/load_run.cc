#include "bench/load/load_run.h"

#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "common/clock.h"

namespace tandem::load {
namespace {

// So that a burst of sends does not keep what has arrived waiting for its time stamp.
constexpr int kSendsBeforeReading = 4;

double CpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

int64_t NumChunks(const Record& record) {
  return record.first == 0 ? 0 : 1 + static_cast<int64_t>(record.gaps.size());
}

}  // namespace

LoadRun::LoadRun(StreamClient& client, const Target& target, const RequestOptions& request,
                 const Workload& workload, const volatile std::sig_atomic_t& interrupt)
    : client_(client),
      target_(target),
      request_(request),
      workload_(workload),
      interrupt_(interrupt) {}

Status LoadRun::WarmUp(int64_t num, int64_t concurrency) {
  DriverOptions options;
  options.concurrency = std::min(num, concurrency);
  options.num_requests = num;
  Driver driver(options, workload_.num_conversations(), {});
  warm_up_ = true;
  const RunResult result = Run(driver, nullptr);
  warm_up_ = false;
  for (const Record& record : result.records) {
    if (record.ok()) return OkStatus();
  }
  return Unavailable("no warm-up request succeeded: {}: {}", Name(result.records[0].outcome),
                     result.records[0].error);
}

RunResult LoadRun::Run(Driver& driver, Progress* progress) {
  records_.clear();
  talks_.clear();
  num_settled_ = 0;
  settled_chunks_ = 0;
  const double cpu_before = CpuSeconds();
  start_ = MonotonicNow();
  Loop(driver, progress);
  RunResult result;
  result.started = start_;
  result.duration = MonotonicNow() - start_;
  result.cpu_s = CpuSeconds() - cpu_before;
  result.interrupted = interrupt_ != 0;
  result.records = std::move(records_);
  if (progress != nullptr) progress->Finish();
  return result;
}

void LoadRun::Loop(Driver& driver, Progress* progress) {
  std::vector<Record*> ended;
  Nanos next_print = start_ + kSecond;
  while (!driver.finished()) {
    for (int i = 0; i < kSendsBeforeReading; ++i) {
      const auto ticket = driver.Next(MonotonicNow() - start_);
      if (!ticket) break;
      Send(*ticket);
    }
    if (driver.finished()) break;  // its time was over before anything was due
    const Nanos next = driver.NextAt();
    client_.Wait(next == Driver::kNever ? next_print : std::min(start_ + next, next_print), ended);
    for (Record* record : ended) OnEnded(*record, driver, progress);
    ended.clear();
    if (interrupt_ != 0) {
      driver.Stop();
      client_.CancelAll();
    }
    const Nanos now = MonotonicNow();
    if (now < next_print) continue;
    next_print = now + kSecond;
    if (progress != nullptr) PrintProgress(driver, *progress, now);
  }
}

void LoadRun::Send(const Ticket& ticket) {
  const auto turn = static_cast<size_t>(ticket.turn);
  Talk fresh;
  const auto known = talks_.find(ticket.conversation);
  if (known == talks_.end()) fresh.conversation = workload_.Make(ticket.conversation);
  Talk& talk = known == talks_.end() ? fresh : known->second;
  const Turn& message = talk.conversation.turns[turn];

  Record& record = records_.emplace_back();
  record.conversation = ticket.conversation;
  record.turn = ticket.turn;
  record.intended = start_ + ticket.intended;
  talk.num_tokens += message.num_tokens;
  record.intended_prompt_tokens = talk.num_tokens;
  const bool last = warm_up_ || turn + 1 == talk.conversation.turns.size();
  client_.Send(RequestText(target_, request_, talk.conversation, turn, talk.replies, warm_up_),
               &record, keep_texts_ || !last);
  if (!last && known == talks_.end()) talks_.emplace(ticket.conversation, std::move(fresh));
}

// Whether its conversation goes on.
bool LoadRun::Continue(const Record& record) {
  const auto talk = talks_.find(record.conversation);
  if (talk == talks_.end()) return false;
  const auto answered = static_cast<size_t>(record.turn) + 1;
  if (!record.ok() || answered == talk->second.conversation.turns.size()) {
    talks_.erase(talk);
    return false;
  }
  return true;
}

void LoadRun::OnEnded(Record& record, Driver& driver, Progress* progress) {
  const bool more = Continue(record);
  if (more) {
    Talk& talk = talks_.at(record.conversation);
    talk.num_tokens += record.output_tokens();
    talk.replies.push_back(keep_texts_ ? record.text : std::exchange(record.text, {}));
  }
  driver.Done({record.conversation, record.turn, record.intended - start_}, more,
              MonotonicNow() - start_);
  if (progress != nullptr) progress->OnEnded(record);
}

void LoadRun::PrintProgress(const Driver& driver, Progress& progress, Nanos now) {
  while (num_settled_ < records_.size() && records_[num_settled_].outcome != Outcome::kPending) {
    settled_chunks_ += NumChunks(records_[num_settled_++]);
  }
  int64_t chunks = settled_chunks_;
  for (size_t i = num_settled_; i < records_.size(); ++i) chunks += NumChunks(records_[i]);
  progress.Print(static_cast<double>(now - start_) / 1e9, driver.num_issued(),
                 driver.num_outstanding(), chunks);
}

}  // namespace tandem::load
