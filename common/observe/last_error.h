// The last error that a process logged, for the process that started it, which is left with an exit
// code otherwise. It lies in a file in memory that both have open: nobody waits for the other, and
// it is there however the process ended.
#pragma once

#include <string>
#include <string_view>

namespace tandem::observe {

// The starter's side. Thread: one.
class LastError {
 public:
  LastError();  // without a file, if the kernel gives none: the error stays unknown
  ~LastError();
  LastError(const LastError&) = delete;
  LastError& operator=(const LastError&) = delete;

  int fd() const { return fd_; }  // closed by exec; -1: none
  // One line; empty: no error was logged.
  std::string Read() const;

  // In the environment of a process that has the file open as kChildFd.
  static constexpr int kChildFd = 3;
  static constexpr const char* kVariable = "TANDEM_LAST_ERROR_FD=3";

 private:
  const int fd_;
};

// The other side, of InitLog and the log. Without such a file they do nothing.
void OpenLastError();  // before other threads log
void WriteLastError(std::string_view line);

}  // namespace tandem::observe
