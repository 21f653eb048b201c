#include "bench/load/driver.h"

#include <algorithm>

#include "common/check.h"

namespace tandem::load {

Driver::Driver(const DriverOptions& options, int64_t num_conversations, std::vector<Nanos> times)
    : options_(options),
      num_conversations_(num_conversations),
      times_(std::move(times)),
      arrivals_(options.rate, options.burstiness, options.seed) {
  TANDEM_CHECK(options.mode != Mode::kReplay ||
               static_cast<int64_t>(times_.size()) == num_conversations)
      << times_.size() << " times for " << num_conversations;
  Advance();
}

void Driver::Advance() {
  if (options_.mode == Mode::kOpen) {
    begin_at_ = arrivals_.Next();
  } else if (options_.mode == Mode::kReplay && begun_ < num_conversations_) {
    const auto at = static_cast<double>(times_[static_cast<size_t>(begun_)]);
    begin_at_ = static_cast<Nanos>(at / options_.rate_scale);
  }
}

bool Driver::MoreToCome() const {
  if (stopped_ || issued_ >= options_.num_requests) return false;
  return !follow_ups_.empty() || MayBegin();
}

bool Driver::MayBegin() const {
  if (begun_ >= num_conversations_) return false;
  if (options_.mode == Mode::kClosed) return open_ < options_.concurrency;
  return begin_at_ < options_.duration;
}

Nanos Driver::NextAt() const {
  if (!MoreToCome() || outstanding_ >= options_.max_outstanding) return kNever;
  if (!follow_ups_.empty()) return follow_ups_.front().intended;
  return options_.mode == Mode::kClosed ? 0 : begin_at_;
}

std::optional<Ticket> Driver::Next(Nanos now) {
  if (options_.mode == Mode::kClosed && now >= options_.duration) Stop();
  if (!MoreToCome() || outstanding_ >= options_.max_outstanding) return std::nullopt;
  Ticket ticket;
  const Nanos begin = options_.mode == Mode::kClosed ? now : begin_at_;
  const bool follow =
      !follow_ups_.empty() && (!MayBegin() || follow_ups_.front().intended <= begin);
  if (follow) {
    ticket = follow_ups_.front();
    follow_ups_.pop_front();
  } else {
    if (begin > now) return std::nullopt;
    ticket = {begun_++, 0, begin};
    ++open_;
    Advance();
  }
  ++issued_;
  ++outstanding_;
  return ticket;
}

void Driver::Done(const Ticket& ticket, bool more, Nanos now) {
  TANDEM_CHECK(outstanding_ > 0) << "more ends than requests";
  --outstanding_;
  if (more && now < options_.duration) {
    follow_ups_.push_back({ticket.conversation, ticket.turn + 1, now});
  } else {
    --open_;
  }
}

}  // namespace tandem::load
