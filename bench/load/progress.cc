#include "bench/load/progress.h"

#include <unistd.h>

#include <algorithm>

#include "bench/load/metrics.h"
#include "common/status.h"

namespace tandem::load {

Progress::Progress(std::FILE* out) : out_(out), terminal_(::isatty(::fileno(out)) == 1) {}

void Progress::OnEnded(const Record& record) {
  ++(record.ok() ? num_ok_ : num_failed_);
  if (record.ok()) ttft_ms_.push_back(static_cast<double>(record.first - record.intended) / 1e6);
}

void Progress::Print(double elapsed_s, int64_t num_sent, int64_t num_running, int64_t num_chunks) {
  const double interval = elapsed_s - elapsed_before_;
  const double rate =
      interval > 0 ? static_cast<double>(num_chunks - chunks_before_) / interval : 0;
  std::sort(ttft_ms_.begin(), ttft_ms_.end());
  const std::string ttft =
      ttft_ms_.empty() ? "-" : fmt::format("{:.1f} ms", Percentile(ttft_ms_, 50));
  const std::string line =
      fmt::format("{:6.0f} s  sent {}  ok {}  failed {}  running {}  {:.0f} chunks/s  TTFT {}",
                  elapsed_s, num_sent, num_ok_, num_failed_, num_running, rate, ttft);
  fmt::print(out_, "{}{}{}", terminal_ ? "\r\033[K" : "", line, terminal_ ? "" : "\n");
  std::fflush(out_);
  printed_ = true;
  chunks_before_ = num_chunks;
  elapsed_before_ = elapsed_s;
  ttft_ms_.clear();
}

void Progress::Finish() {
  if (terminal_ && printed_) fmt::print(out_, "\n");
}

}  // namespace tandem::load
