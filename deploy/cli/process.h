// Child processes that cannot outlive their parent, and finding the programs they run.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/observe/last_error.h"
#include "common/status.h"

namespace tandem::cli {

// Folder of the running executable.
StatusOr<std::string> OwnFolder();

// OK when `path` can be executed; otherwise what to do about it.
Status CheckProgram(const std::string& path);

// Forks and executes argv[0] (a path) with default signals, a process group of its own (a Ctrl-C
// of the terminal reaches us only), /dev/null as input and our output and errors. The child gets
// SIGKILL when the calling *thread* ends, however it ends: call from the main thread. A program
// that cannot be executed is a child that exits with 2. `last_error` receives its last error.
StatusOr<pid_t> StartProcess(const std::vector<std::string>& argv,
                             const observe::LastError& last_error);

// Replaces this process; returns only on failure.
Status Execute(const std::vector<std::string>& argv);

// Of a status of waitpid: "exited with 75", "was killed by signal 9 (Killed)".
std::string DescribeExit(int wait_status);

}  // namespace tandem::cli
