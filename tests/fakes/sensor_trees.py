"""Stand-ins for the sysfs trees of boards, laid out as documented: what the kernel there shows, and no more.

A tree is ``{path below the root: content}``. Sources of the layouts: Documentation/hwmon/ina3221.rst,
jetson_stats' captures, drivers/hwmon/ina2xx.c, Documentation/power/powercap/powercap.rst,
Documentation/ABI/testing/sysfs-class-power, raspberrypi/documentation.
"""

import stat
from collections.abc import Mapping
from pathlib import Path

Tree = Mapping[str, str]

I2C = "sys/bus/i2c/drivers/ina3221"


def _rail(folder: str, channel: int, label: str, millivolt: int, milliampere: int) -> dict[str, str]:
    return {
        f"{folder}/in{channel}_label": f"{label}\n",
        f"{folder}/in{channel}_input": f"{millivolt}\n",
        f"{folder}/curr{channel}_input": f"{milliampere}\n",
    }


_ORIN_NANO = f"{I2C}/1-0040/hwmon/hwmon4"
JETSON_ORIN_NANO: Tree = {
    f"{_ORIN_NANO}/name": "ina3221\n",
    **_rail(_ORIN_NANO, 1, "VDD_IN", 5080, 920),
    **_rail(_ORIN_NANO, 2, "VDD_CPU_GPU_CV", 5072, 120),
    **_rail(_ORIN_NANO, 3, "VDD_SOC", 5072, 288),
    f"{_ORIN_NANO}/in7_label": "sum of shunt voltages\n",
    f"{_ORIN_NANO}/in7_input": "6\n",
}
"""Module input 5080 mV x 920 mA = 4.6736 W."""

_NANO = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
JETSON_NANO_JP4: Tree = {
    f"{_NANO}/name": "ina3221x\n",
    f"{_NANO}/rail_name_0": "POM_5V_IN\n",
    f"{_NANO}/in_power0_input": "2340\n",
    f"{_NANO}/in_voltage0_input": "5064\n",
    f"{_NANO}/in_current0_input": "462\n",
    f"{_NANO}/rail_name_1": "POM_5V_GPU\n",
    f"{_NANO}/in_power1_input": "120\n",
    f"{_NANO}/rail_name_2": "POM_5V_CPU\n",
    f"{_NANO}/in_power2_input": "560\n",
}
"""Module input 2.34 W."""

_AGX0, _AGX1 = f"{I2C}/1-0040/hwmon/hwmon3", f"{I2C}/1-0041/hwmon/hwmon5"
JETSON_AGX_ORIN: Tree = {
    f"{_AGX0}/name": "ina3221\n",
    **_rail(_AGX0, 1, "VDD_GPU_SOC", 19000, 200),
    **_rail(_AGX0, 2, "VDD_CPU_CV", 19000, 40),
    **_rail(_AGX0, 3, "VIN_SYS_5V0", 5000, 600),
    f"{_AGX1}/name": "ina3221\n",
    **_rail(_AGX1, 1, "NC", 8, 0),
    **_rail(_AGX1, 2, "VDDQ_VDD2_1V8AO", 5000, 100),
    **_rail(_AGX1, 3, "NC", 0, 0),
}
"""No input rail: 3.8 + 0.76 + 3.0 + 0.5 = 8.06 W over two chips."""

_TX2_0, _TX2_1 = (f"sys/bus/i2c/drivers/ina3221x/0-004{n}/iio:device{n}" for n in (0, 1))


def _iio_rail(folder: str, channel: int, label: str, milliwatt: int) -> dict[str, str]:
    return {f"{folder}/rail_name_{channel}": f"{label}\n", f"{folder}/in_power{channel}_input": f"{milliwatt}\n"}


JETSON_TX2_JP4: Tree = {
    **_iio_rail(_TX2_0, 0, "VDD_SYS_GPU", 152),
    **_iio_rail(_TX2_0, 1, "VDD_SYS_SOC", 457),
    **_iio_rail(_TX2_0, 2, "VDD_4V0_WIFI", 19),
    **_iio_rail(_TX2_1, 0, "VDD_IN", 2979),
    **_iio_rail(_TX2_1, 1, "VDD_SYS_CPU", 382),
    **_iio_rail(_TX2_1, 2, "VDD_SYS_DDR", 594),
}
"""Module input 2.979 W, on the second chip."""

_XAVIER0, _XAVIER1 = f"{I2C}/1-0040/hwmon/hwmon2", f"{I2C}/1-0041/hwmon/hwmon3"
JETSON_AGX_XAVIER: Tree = {
    f"{_XAVIER0}/name": "ina3221\n",
    **_rail(_XAVIER0, 1, "GPU", 19080, 16),
    **_rail(_XAVIER0, 2, "CPU", 19080, 48),
    **_rail(_XAVIER0, 3, "SOC", 19080, 80),
    f"{_XAVIER1}/name": "ina3221\n",
    **_rail(_XAVIER1, 1, "CV", 19080, 0),
    **_rail(_XAVIER1, 2, "VDDRQ", 19080, 16),
    **_rail(_XAVIER1, 3, "SYS5V", 19080, 120),
}
"""Six rails and no input: 19.08 V x 280 mA = 5.3424 W."""

_THOR = "sys/class/hwmon/hwmon1"
JETSON_AGX_THOR: Tree = {
    f"{_THOR}/name": "ina238\n",
    f"{_THOR}/power1_input": "31250000\n",
    f"{I2C}/2-0040/hwmon/hwmon5/name": "ina3221\n",
    **_rail(f"{I2C}/2-0040/hwmon/hwmon5", 1, "VDD_GPU", 12000, 500),
    **_rail(f"{I2C}/2-0040/hwmon/hwmon5", 2, "VDD_CPU_SOC_MSS", 12000, 700),
    **_rail(f"{I2C}/2-0040/hwmon/hwmon5", 3, "VIN_SYS_5V0", 5000, 900),
}
"""The carrier's input 31.25 W; the rails inside of it, 18.9 W, are not the whole."""

_INA260 = "sys/class/hwmon/hwmon3"
GATEWAY_WITH_INA260: Tree = {
    f"{_INA260}/name": "ina260\n",
    f"{_INA260}/in1_input": "12010\n",
    f"{_INA260}/curr1_input": "251\n",
    f"{_INA260}/power1_input": "3010000\n",
}
"""12010 mV x 251 mA = 3.01451 W."""

_INA219 = "sys/class/hwmon/hwmon2"
PI_WITH_INA219: Tree = {
    "sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
    "sys/class/hwmon/hwmon0/temp1_input": "48312\n",
    "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    f"{_INA219}/name": "ina219\n",
    f"{_INA219}/in0_input": "6\n",
    f"{_INA219}/in1_input": "5104\n",
    f"{_INA219}/curr1_input": "612\n",
    f"{_INA219}/power1_input": "3120000\n",
    f"{_INA219}/shunt_resistor": "10000\n",
}
"""5104 mV x 612 mA = 3.123648 W; the driver's own 3.12 W comes in steps of 20 mW."""

_INA226 = "sys/class/hwmon/hwmon1"
GATEWAY_WITH_INA226: Tree = {
    f"{_INA226}/name": "ina226\n",
    f"{_INA226}/in1_label": "main\n",
    f"{_INA226}/power1_input": "1250000\n",
    f"{_INA226}/update_interval": "70\n",
}
"""Only the power attribute; refreshed every 70 ms."""

_RAPL = "sys/class/powercap"
_DOMAIN = {"max_energy_range_uj": "262143328850\n"}


def _domain(folder: str, name: str, energy: int) -> dict[str, str]:
    return {
        f"{_RAPL}/{folder}/name": f"{name}\n",
        f"{_RAPL}/{folder}/energy_uj": f"{energy}\n",
        **{f"{_RAPL}/{folder}/{key}": value for key, value in _DOMAIN.items()},
    }


LAPTOP_RAPL: Tree = {
    f"{_RAPL}/intel-rapl/enabled": "1\n",
    **_domain("intel-rapl:0", "package-0", 1_000_000),
    **_domain("intel-rapl:0:0", "core", 400_000),
    **_domain("intel-rapl:0:1", "uncore", 100_000),
    **_domain("intel-rapl:1", "psys", 5_000_000),
    **_domain("intel-rapl-mmio:0", "package-0", 999_000),
    "sys/class/power_supply/AC/type": "Mains\n",
    "sys/class/power_supply/AC/online": "1\n",
    "sys/class/power_supply/BAT0/type": "Battery\n",
    "sys/class/power_supply/BAT0/status": "Full\n",
    "sys/class/power_supply/BAT0/voltage_now": "12400000\n",
    "sys/class/power_supply/BAT0/current_now": "0\n",
}

AMD_RAPL: Tree = {
    **_domain("intel-rapl:0", "package-0", 7_000_000),
    **_domain("intel-rapl:0:0", "core", 10_000),
    **_domain("intel-rapl:1", "package-1", 2_000_000),
    **_domain("intel-rapl:1:0", "core", 5_000),
}
"""Two sockets; the driver is called intel-rapl there too."""

BATTERY_BOX: Tree = {
    "sys/class/power_supply/bq27441-0/type": "Battery\n",
    "sys/class/power_supply/bq27441-0/status": "Discharging\n",
    "sys/class/power_supply/bq27441-0/voltage_now": "3700000\n",
    "sys/class/power_supply/bq27441-0/current_now": "-500000\n",
    "sys/class/power_supply/ucsi-source-psy-USBC000:001/type": "USB\n",
    "sys/class/power_supply/ucsi-source-psy-USBC000:001/voltage_now": "5000000\n",
    "sys/class/power_supply/ucsi-source-psy-USBC000:001/current_now": "3000000\n",
}
"""3.7 V x 0.5 A = 1.85 W."""

PMIC_ANSWER = """\
    3V7_WL_SW_A current(0)=0.10000000A
      3V3_SYS_A current(1)=0.05000000A
      1V8_SYS_A current(2)=0.20000000A
     DDR_VDD2_A current(3)=0.02000000A
     DDR_VDDQ_A current(4)=0.00000000A
      1V1_SYS_A current(5)=0.18000000A
       0V8_SW_A current(6)=0.35000000A
     VDD_CORE_A current(7)=1.50000000A
      3V3_DAC_A current(17)=0.00010000A
      3V3_ADC_A current(18)=0.00010000A
      0V8_AON_A current(16)=0.00300000A
         HDMI_A current(22)=0.01000000A
    3V7_WL_SW_V volt(8)=3.70000000V
      3V3_SYS_V volt(9)=3.30000000V
      1V8_SYS_V volt(10)=1.80000000V
     DDR_VDD2_V volt(11)=1.10000000V
     DDR_VDDQ_V volt(12)=0.60000000V
      1V1_SYS_V volt(13)=1.10000000V
       0V8_SW_V volt(14)=0.80000000V
     VDD_CORE_V volt(15)=0.75000000V
      3V3_DAC_V volt(20)=3.30000000V
      3V3_ADC_V volt(21)=3.30000000V
      0V8_AON_V volt(19)=0.80000000V
         HDMI_V volt(23)=5.10000000V
        EXT5V_V volt(24)=5.10000000V
         BATT_V volt(25)=0.00000000V
"""
PMIC_WATTS = (
    0.1 * 3.7 + 0.05 * 3.3 + 0.2 * 1.8 + 0.02 * 1.1 + 0.18 * 1.1 + 0.35 * 0.8 + 1.5 * 0.75
    + 2 * 0.0001 * 3.3 + 0.003 * 0.8 + 0.01 * 5.1
)  # fmt: skip

PI4_ANSWER = 'error=1 error_msg="Command not registered"\n'
NO_GROUP_ANSWER = "VCHI initialization failed\n"


def vcgencmd(answers: Mapping[str, str]) -> Tree:
    """Return a tree with a vcgencmd that prints a literal answer per command."""
    cases = "".join(f"{command}) cat <<'END'\n{answer}END\n;;\n" for command, answer in answers.items())
    return {"usr/bin/vcgencmd": f"#!/bin/sh\ncase $1 in\n{cases}esac\n"}


RASPBERRY_PI_5: Tree = {
    **vcgencmd({"pmic_read_adc": PMIC_ANSWER, "get_throttled": "throttled=0x0\n"}),
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\x00",
    "proc/meminfo": "MemTotal:        8245328 kB\nMemFree:         7000000 kB\n",
    "proc/loadavg": "0.52 0.58 0.59 1/389 12345\n",
    "proc/pressure/cpu": (
        "some avg10=0.00 avg60=0.12 avg300=0.10 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    ),
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "52300\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "2\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "2400000\n",
}


def plant(root: Path, tree: Tree) -> Path:
    """Write a tree below ``root`` and return the root; scripts are executable."""
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        if content.startswith("#!"):
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return root
