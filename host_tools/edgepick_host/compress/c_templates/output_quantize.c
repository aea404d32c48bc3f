float ${prefix}_dequantize_output_${number}(${type} value) {
  return (float)(value - ${tensor}_ZERO_POINT) * ${tensor}_SCALE;
}
