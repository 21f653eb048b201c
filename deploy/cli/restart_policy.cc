#include "deploy/cli/restart_policy.h"

#include <algorithm>

namespace tandem::cli {

Nanos RestartPolicy::PauseAfter(Nanos ran) {
  if (ran >= options_.healthy_after) next_pause_ = num_failures_ = 0;
  ++num_failures_;
  const Nanos pause = next_pause_;
  next_pause_ = pause == 0 ? options_.first_pause : std::min(2 * pause, options_.max_pause);
  return pause;
}

}  // namespace tandem::cli
