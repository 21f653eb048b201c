#include "kernels/cuda/attention.cuh"

#include <algorithm>
#include <numbers>

namespace tandem::kernels::cuda {
namespace {

void CheckAttention(const Matrix& out, const Matrix& q, const KvLayer& kv, const Batch& batch,
                    float scale, int32_t window) {
  const int64_t heads = q.cols / kv.head_dim;
  CheckMatrix(q, batch.num_tokens, heads * kv.head_dim, kv.type);
  CheckMatrix(out, batch.num_tokens, q.cols, kv.type);
  TANDEM_CHECK(heads % kv.num_kv_heads == 0 && heads / kv.num_kv_heads <= kAttentionTileRows)
      << heads << " heads, " << kv.num_kv_heads << " KV heads";
  TANDEM_CHECK(kv.block_size > 0 && kv.block_size % attention::kPiece == 0) << kv.block_size;
  TANDEM_CHECK(scale > 0 && window >= 0) << scale << " " << window;
}

}  // namespace

void PagedAttention(const Matrix& out, const Matrix& q, const KvLayer& kv, const Batch& batch,
                    float scale, int32_t window, float* partials, cudaStream_t stream) {
  CheckAttention(out, q, kv, batch, scale, window);
  if (batch.max_items == 0) return;
  attention::Args args;
  args.out = out.data;
  args.q = q.data;
  args.k = kv.k;
  args.v = kv.v;
  args.out_stride = out.stride;
  args.q_stride = q.stride;
  args.block_table = batch.block_table;
  args.first_block = batch.first_block;
  args.items = batch.items;
  args.num_items = batch.num_items;
  args.merges = batch.merges;
  args.num_merges = batch.num_merges;
  args.partials = partials;
  args.num_kv_heads = kv.num_kv_heads;
  args.group = static_cast<int32_t>(q.cols / kv.head_dim / kv.num_kv_heads);
  args.block_pieces = kv.block_size / attention::kPiece;
  args.window = window;
  args.scale = scale * std::numbers::log2e_v<float>;
  ForType(kv.type, [&]<class T>(T) {
    attention::Device<T>::Run(args, kv.head_dim, batch.max_items, batch.max_merges, stream);
  });
}

int32_t AttentionBlocksAtOnce(ActivationType type, int32_t head_dim) {
  int device = 0, multiprocessors = 0, blocks = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device) !=
          cudaSuccess) {
    return 1;
  }
  ForType(type,
          [&]<class T>(T) { blocks = attention::Device<T>::BlocksPerMultiprocessor(head_dim); });
  return std::max(1, multiprocessors * blocks);
}

}  // namespace tandem::kernels::cuda
