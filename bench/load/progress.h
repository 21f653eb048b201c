// One line a second about a run that is under way; on a terminal the line is written over.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "bench/load/record.h"

namespace tandem::load {

class Progress {
 public:
  explicit Progress(std::FILE* out);

  void OnEnded(const Record& record);
  // Once a second. num_chunks: of all requests since the run began.
  void Print(double elapsed_s, int64_t num_sent, int64_t num_running, int64_t num_chunks);
  void Finish();  // leaves the last line standing

 private:
  std::FILE* out_;
  bool terminal_;
  int64_t num_ok_ = 0;
  int64_t num_failed_ = 0;
  int64_t chunks_before_ = 0;
  double elapsed_before_ = 0;
  bool printed_ = false;
  std::vector<double> ttft_ms_;  // of requests that ended since the last line
};

}  // namespace tandem::load
