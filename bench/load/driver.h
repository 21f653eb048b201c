// Decides which request goes out and when. Pure: time comes in as `now`, counted from the start of
// the run; nothing here knows a socket or a text.
//
//   closed loop   `concurrency` conversations at a time; the next begins when one ends
//   open loop     conversations begin at the times of an arrival process, answered or not
//   replay        at the times of a trace, divided by a scale
//
// A conversation's next turn is due when the turn before was answered. What is due and may not go,
// because `max_outstanding` are out, waits here and stays due since when it was due.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <vector>

#include "bench/load/arrivals.h"
#include "common/ids.h"

namespace tandem::load {

enum class Mode : uint8_t { kClosed, kOpen, kReplay };

struct DriverOptions {
  Mode mode = Mode::kClosed;
  int64_t concurrency = 1;  // closed loop
  double rate = 1;          // open loop: conversations/s
  double burstiness = 1;    // open loop: see Arrivals
  double rate_scale = 1;    // replay: 2 is twice as fast
  int64_t num_requests = std::numeric_limits<int64_t>::max();
  Nanos duration = std::numeric_limits<Nanos>::max();  // nothing is due from then on
  int64_t max_outstanding = std::numeric_limits<int64_t>::max();
  uint64_t seed = 0;
};

struct Ticket {
  int64_t conversation = 0;
  int64_t turn = 0;
  Nanos intended = 0;
};

class Driver {
 public:
  static constexpr Nanos kNever = std::numeric_limits<Nanos>::max();

  // `times` is for replay: ascending, one for each conversation.
  Driver(const DriverOptions& options, int64_t num_conversations, std::vector<Nanos> times);

  // A request to send now; outstanding until its Done(). None: nothing is due or may go.
  std::optional<Ticket> Next(Nanos now);

  // When Next() may have something though no Done() comes before; kNever: not without one.
  Nanos NextAt() const;

  // Its outcome is known. more: it was answered and its conversation has another turn.
  void Done(const Ticket& ticket, bool more, Nanos now);

  void Stop() { stopped_ = true; }  // nothing more is due
  bool finished() const { return outstanding_ == 0 && !MoreToCome(); }
  int64_t num_issued() const { return issued_; }
  int64_t num_outstanding() const { return outstanding_; }

 private:
  bool MoreToCome() const;
  bool MayBegin() const;  // another conversation, as far as counts go
  void Advance();         // begin_at_ to the next conversation's

  DriverOptions options_;
  int64_t num_conversations_;
  std::vector<Nanos> times_;
  Arrivals arrivals_;
  std::deque<Ticket> follow_ups_;  // next turns that are due, oldest first
  Nanos begin_at_ = 0;             // of conversation begun_; closed loop: unused
  int64_t begun_ = 0;
  int64_t open_ = 0;  // conversations begun and not ended
  int64_t issued_ = 0;
  int64_t outstanding_ = 0;
  bool stopped_ = false;
};

}  // namespace tandem::load
