// The kernel tests on a GPU. Exit codes: 0 all passed, 1 not, 3 there is no GPU to run on.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "gpu_selftest: no GPU: %s\n",
                 error != cudaSuccess ? cudaGetErrorString(error) : "the driver knows of none");
    return 3;
  }
  return RUN_ALL_TESTS();
}
