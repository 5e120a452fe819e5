// value·weight + bias, of the own-th of each, rounded after each of them and then to a result.
//
// The host defines WEIGHTED and BIASED, whether there is a weight or a bias.

__device__ __forceinline__ Out scaled_value(
    Table value, const Weight* weight, const Weight* bias, u32 own) {
    Wide number = wide_number(value);
#if WEIGHTED
    number = number * wide_weight(__ldg(weight + own));
#endif
#if BIASED
    number = number + wide_weight(__ldg(bias + own));
#endif
    return out_value(number);
}
