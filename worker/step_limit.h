// How long a step may take before the group counts as lost: the larger of a floor and ten times
// what steps like it have taken. Short steps (decodes) and long ones (chunks of prompts) are kept
// apart: their cost a token differs by a factor that would make a limit useless. Thread: engine.
//
// A limit is the time within which clients hear of the loss, so whoever watches acts before it is
// over; one after the other, so that one process names the culprit: the leader, the other ranks
// (the leader stands still), `tandem up` (no rank runs), the routers (nor does the machine).
#pragma once

#include <algorithm>

#include "common/ids.h"

namespace tandem::worker {

// The part of a limit after which a process acts. What is left is for the last words, or for a
// router to see that a connection was closed (200 ms).
inline constexpr double kLeaderShare = 0.8;
inline constexpr double kFollowerShare = 0.9;

inline Nanos ShareOf(double share, Nanos limit) {
  return static_cast<Nanos>(share * static_cast<double>(limit));
}

class StepLimit {
 public:
  explicit StepLimit(Nanos floor) : floor_(floor) {}

  Nanos For(int num_tokens) const {
    if (num_tokens <= kShortTokens) return Limit(short_step_);
    if (long_token_ > 0) return Limit(short_step_ + long_token_ * num_tokens);
    // No chunk was seen yet: a chunk costs at most what as many decodes do; nothing seen at all:
    // as long as a slow machine may take.
    const Nanos unknown = kUnknownFloors * floor_;
    return short_step_ > 0 ? std::min(unknown, Limit(short_step_ * num_tokens)) : unknown;
  }

  // Of a step that computed `num_tokens` > 0.
  void Observe(int num_tokens, Nanos duration) {
    const auto took = static_cast<double>(duration);
    if (num_tokens <= kShortTokens) {
      Average(short_step_, took);
    } else {
      Average(long_token_, took / num_tokens);
    }
  }

 private:
  static constexpr int kShortTokens = 32;
  static constexpr int kUnknownFloors = 4;

  // The first is taken whole; later a slower machine is believed in ten steps.
  static void Average(double& mean, double value) {
    constexpr double kWeight = 0.1;
    mean = mean == 0 ? value : mean + kWeight * (value - mean);
  }

  Nanos Limit(double predicted) const {
    return std::max(floor_, static_cast<Nanos>(10 * predicted));
  }

  const Nanos floor_;
  double short_step_ = 0;  // nanoseconds; 0: none seen
  double long_token_ = 0;  // of a token in a long step
};

}  // namespace tandem::worker
