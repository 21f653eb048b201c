// The reply to one call, as the bytes that go to its client. Hears from the service, is emptied by
// the connection:
//
//   nothing yet ──first text──▶ streaming ──▶ ended
//        │                          └──failed──▶ ended (error event, the connection closes)
//        └──finished, failed──▶ ended (one response with a status)
//
// The head of a stream leaves with its first text, so that what fails before it has a status.
// A large body is made aside, on another thread, so that nobody else waits for it.
// Thread: the I/O thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/http/reply_format.h"

namespace tandem::http {

class Reply : public ReplySink {
 public:
  struct Options {
    bool http_1_0 = false;  // no chunked coding: the body ends with the connection
    bool close = false;     // the connection closes after this reply
    // Calls the first elsewhere, then the second, with what that made, here. Null: there is no
    // elsewhere.
    std::function<void(std::function<std::string()>, std::function<void(std::string)>)> make_aside;
  };
  // `wake` is called when Take() has something new. REQUIRES: the call's sequences are made.
  Reply(std::shared_ptr<ApiCall> call, Options options, std::function<void()> wake);

  void OnDelta(const Generation& generation, const Delta& delta) override;
  void OnFinished(const Generation& generation) override;
  void OnFailed(const ApiError& error) override;

  // Sets `out` to the bytes to write next; empty: nothing now, or nothing more if done(). A caller
  // that gives the same string again saves its allocation.
  void Take(std::string& out);
  // All that Take() gave was written. The first time ends the TTFT.
  void Flushed(Nanos now);

  bool done() const { return ended_ && taken_end_; }
  bool close() const { return options_.close; }
  int status() const { return status_; }  // 200 until it failed; of a broken stream: 200
  const std::string& error_code() const { return error_code_; }
  std::string_view finish_reason() const;  // of the first choice; empty: it has not ended well
  size_t num_pending_bytes() const { return pending_.size(); }  // made and not taken

 private:
  Choice& ChoiceOf(const Generation& generation);
  static void CountReasoning(Choice& choice);
  LatencyAccount& account();  // of the sequence whose text came first
  void Start();
  void TakeEnd(std::string& out);
  void TakeBody(std::string& out);
  std::string StreamEnd();
  // Makes the body. It may be called when this is gone.
  std::function<std::string()> BodyMaker();
  bool IsLarge() const;  // the body
  std::vector<Choice> Best();
  Usage usage() const;
  Usage UsageSoFar() const;  // where chunks say it
  std::string Timing();

  const std::shared_ptr<ApiCall> call_;
  const std::shared_ptr<ReplyFormat> format_;  // null: of embeddings
  Options options_;
  const std::function<void()> wake_;
  std::vector<Choice> choices_;  // one for each sequence
  int num_finished_ = 0;
  const Generation* first_ = nullptr;  // whose delta came first
  const Generation* last_ = nullptr;   // that finished
  bool started_ = false;               // streaming: head and first chunk are made
  bool ended_ = false;                 // all finished, or OnFailed came
  bool taken_end_ = false;             // and Take() gave the end
  bool flushed_ = false;
  bool making_ = false;              // the body, aside
  bool head_taken_ = false;          // and it is what comes next
  std::optional<std::string> made_;  // the body
  // Those who come back from elsewhere hold it weakly: they may come too late.
  const std::shared_ptr<const bool> alive_ = std::make_shared<const bool>(true);
  std::string pending_;  // streaming: made and not taken
  std::string head_;
  std::optional<ApiError> error_;
  int status_ = 200;
  std::string error_code_;
};

}  // namespace tandem::http
