// A whole run: asks the driver what is due, makes its text, sends it, and keeps a record of each
// request. The one place where clock, workload, driver and sockets meet.
#pragma once

#include <csignal>
#include <deque>
#include <unordered_map>
#include <vector>

#include "bench/load/driver.h"
#include "bench/load/progress.h"
#include "bench/load/record.h"
#include "bench/load/request_text.h"
#include "bench/load/stream_client.h"
#include "bench/load/workload.h"

namespace tandem::load {

struct RunResult {
  std::deque<Record> records;  // in order of sending; times from the clock of the run
  Nanos started = 0;
  Nanos duration = 0;  // to the last request's end
  double cpu_s = 0;    // of this process, meanwhile
  bool interrupted = false;
};

class LoadRun {
 public:
  // All borrowed. `interrupt` becomes not 0 to end the run: what is under way counts as cancelled.
  LoadRun(StreamClient& client, const Target& target, const RequestOptions& request,
          const Workload& workload, const volatile std::sig_atomic_t& interrupt);

  // Records of later runs hold the text of their replies, which is most of a record.
  void KeepTexts() { keep_texts_ = true; }

  // `num` requests, `concurrency` at a time, whose records are dropped. An error: all have failed.
  Status WarmUp(int64_t num, int64_t concurrency);

  // progress may be null. Every request that the driver lets go has one record in the result.
  RunResult Run(Driver& driver, Progress* progress);

 private:
  struct Talk {  // a conversation of several turns that is under way
    Conversation conversation;
    std::vector<std::string> replies;
    int64_t num_tokens = 0;  // of all before the next message
  };

  void Loop(Driver& driver, Progress* progress);
  void Send(const Ticket& ticket);
  void OnEnded(Record& record, Driver& driver, Progress* progress);
  bool Continue(const Record& record);
  void PrintProgress(const Driver& driver, Progress& progress, Nanos now);

  StreamClient& client_;
  const Target& target_;
  const RequestOptions& request_;
  const Workload& workload_;
  const volatile std::sig_atomic_t& interrupt_;
  bool keep_texts_ = false;
  bool warm_up_ = false;
  Nanos start_ = 0;
  std::deque<Record> records_;
  size_t num_settled_ = 0;      // leading records that have ended
  int64_t settled_chunks_ = 0;  // of those
  std::unordered_map<int64_t, Talk> talks_;
};

}  // namespace tandem::load
