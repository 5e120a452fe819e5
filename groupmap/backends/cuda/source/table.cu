// The table of a named target: Q at the positions of all doubled mid-ranks among n values.

extern "C" __global__ void fill_table(
    Table* table, i64 n, i64 kind, double parameter, double alphap, double betap) {
    const Formula formula = {(int)kind, parameter, alphap, betap};
    for (i64 h = blockIdx.x * (i64)blockDim.x + threadIdx.x; h < 2 * n - 1;
         h += (i64)gridDim.x * blockDim.x) {
        table[h] = table_value(quantile((double)h, (double)n, formula));
    }
}
