#include "deploy/cli/restart_policy.h"

#include <algorithm>

namespace tandem::cli {

Nanos RestartPolicy::PauseAfter(Nanos ran) {
  if (ran >= options_.healthy_after) next_pause_ = 0;
  const Nanos pause = next_pause_;
  next_pause_ = pause == 0 ? options_.first_pause : std::min(2 * pause, options_.max_pause);
  return pause;
}

}  // namespace tandem::cli
