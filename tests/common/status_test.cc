#include "common/status.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

StatusOr<int> Half(int x) {
  if (x % 2 != 0) return InvalidArgument("{} is odd", x);
  return x / 2;
}

Status Quarter(int x, int& out) {
  TANDEM_ASSIGN_OR_RETURN(const int half, Half(x));
  TANDEM_ASSIGN_OR_RETURN(out, Half(half));
  return OkStatus();
}

TEST(Status, CarriesCodeAndMessageThroughMacros) {
  int out = 0;
  EXPECT_TRUE(Quarter(8, out).ok());
  EXPECT_EQ(out, 2);
  const Status bad = Quarter(6, out);
  EXPECT_EQ(bad.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(bad), "3 is odd");
}

}  // namespace
}  // namespace tandem
