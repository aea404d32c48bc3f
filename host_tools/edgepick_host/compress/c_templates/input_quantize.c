${type} ${prefix}_quantize_input_${number}(float value) {
  float steps = value / ${tensor}_SCALE + (float)${tensor}_ZERO_POINT;
  if (steps >= ${most}.0f) return ${most};
  if (steps > ${least}.0f) return (${type})(steps < 0.0f ? steps - 0.5f : steps + 0.5f);
  return ${least}; /* not a number ends here, too */
}
