// Splits a server-sent event stream into the data of its events, however the bytes were cut.
// Lines may end in \n, \r\n or \r; comments and other fields are passed over.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tandem::load {

class SseParser {
 public:
  static constexpr size_t kMaxEventBytes = size_t{16} << 20;

  // Calls on_event(std::string_view data) for each event that these bytes complete; the view lives
  // as long as the call. on_event returns false to stop: the rest is dropped. False: an event
  // beyond kMaxEventBytes, after which nothing more is read.
  template <class F>
  bool Feed(std::string_view bytes, F&& on_event) {
    while (!bytes.empty()) {
      if (after_cr_ && bytes[0] == '\n') bytes.remove_prefix(1);  // the second half of a \r\n
      after_cr_ = false;
      const size_t end = bytes.find_first_of("\r\n");
      line_ += bytes.substr(0, end);
      if (line_.size() + data_.size() > kMaxEventBytes) return false;
      if (end == std::string_view::npos) break;
      after_cr_ = bytes[end] == '\r';
      bytes.remove_prefix(end + 1);
      if (!line_.empty()) {
        EndLine();
      } else if (!Dispatch(on_event)) {
        break;
      }
    }
    return true;
  }

  // The stream has ended: an event without its blank line counts, as some servers end with one.
  template <class F>
  void End(F&& on_event) {
    EndLine();
    Dispatch(on_event);
  }

 private:
  void EndLine();  // takes line_ over into data_, if it is data

  template <class F>
  bool Dispatch(F& on_event) {
    if (!has_data_) return true;
    const bool more = on_event(std::string_view(data_));
    data_.clear();
    has_data_ = false;
    return more;
  }

  std::string line_;  // so far
  std::string data_;  // of the event so far
  bool has_data_ = false;
  bool after_cr_ = false;
};

}  // namespace tandem::load
