// When to start again what has died: at once the first time, then with a pause that doubles, and
// as at first after it has run well for a while. Pure: time is an argument.
#pragma once

#include "common/ids.h"

namespace tandem::cli {

struct RestartOptions {
  Nanos first_pause = 100 * kMillisecond;  // before the second start in a row
  Nanos max_pause = 30 * kSecond;
  Nanos healthy_after = 10 * kSecond;  // of running: longer than any start that fails takes
};

class RestartPolicy {
 public:
  explicit RestartPolicy(const RestartOptions& options) : options_(options) {}

  // It died after running for `ran`: how long to wait before the next start.
  Nanos PauseAfter(Nanos ran);
  // How often it has died by now, since it last ran well.
  int num_failures() const { return num_failures_; }

 private:
  RestartOptions options_;
  int num_failures_ = 0;
  Nanos next_pause_ = 0;
};

}  // namespace tandem::cli
