package schedule

import (
	"math"
	"time"
)

// event is when the sun passes a height above or below the horizon.
type event struct {
	zenith float64 // degrees from straight up
	rising bool
}

// The heights are those of almanacs: the upper limb at the horizon, with 34' of
// refraction; and civil twilight.
var events = map[string]event{
	"sunrise": {90.833, true}, "sunset": {90.833, false},
	"dawn": {96, true}, "dusk": {96, false},
}

func radians(d float64) float64 { return d * math.Pi / 180 }
func degrees(r float64) float64 { return r * 180 / math.Pi }

// on is when the event happens, before or after the noon by the sun that belongs to a
// day of UTC; false if it does not. It is right to about a minute between the polar
// circles.
func (e event) on(day time.Time, latitude, longitude float64) (time.Time, bool) {
	t := day.Add(minutes(720 - 4*longitude))
	for range 3 { // the sun moves on while one waits for it
		declination, equation := sunAt(t)
		solarNoon := day.Add(minutes(720 - 4*longitude - equation))
		cos := (math.Cos(radians(e.zenith)) - math.Sin(radians(latitude))*math.Sin(declination)) /
			(math.Cos(radians(latitude)) * math.Cos(declination))
		if !(cos >= -1 && cos <= 1) { // polar day or night, or no place at all
			return time.Time{}, false
		}
		away := minutes(4 * degrees(math.Acos(cos)))
		if e.rising {
			away = -away
		}
		t = solarNoon.Add(away)
	}
	return t.Truncate(time.Second), true
}

func minutes(m float64) time.Duration { return time.Duration(m * float64(time.Minute)) }

// Elevation is how high the sun's middle stands above the horizon, in degrees, without
// refraction; below 0 it is under it. Latitude is in degrees north, longitude in degrees
// east.
func Elevation(t time.Time, latitude, longitude float64) float64 {
	declination, equation := sunAt(t)
	day := t.UTC().Sub(t.UTC().Truncate(24 * time.Hour))
	hourAngle := radians((day.Minutes()+equation)/4 + longitude - 180)
	sin := math.Sin(radians(latitude))*math.Sin(declination) +
		math.Cos(radians(latitude))*math.Cos(declination)*math.Cos(hourAngle)
	return degrees(math.Asin(max(-1, min(1, sin))))
}

// sunAt is the sun's declination in radians, and by how many minutes a sundial is
// ahead of a clock (NOAA, Solar Calculation Details, after J. Meeus, Astronomical
// Algorithms, 1991).
func sunAt(t time.Time) (declination, equation float64) {
	const j2000 = 946728000 // 2000-01-01 12:00 UTC, in Unix time
	c := float64(t.Unix()-j2000) / 86400 / 36525
	longitude := math.Mod(280.46646+c*(36000.76983+c*0.0003032), 360)
	anomaly := radians(357.52911 + c*(35999.05029-0.0001537*c))
	eccentricity := 0.016708634 - c*(0.000042037+0.0000001267*c)
	center := math.Sin(anomaly)*(1.914602-c*(0.004817+0.000014*c)) +
		math.Sin(2*anomaly)*(0.019993-0.000101*c) + math.Sin(3*anomaly)*0.000289
	node := radians(125.04 - 1934.136*c)
	apparent := radians(longitude + center - 0.00569 - 0.00478*math.Sin(node))
	obliquity := radians(23 + (26+(21.448-c*(46.815+c*(0.00059-c*0.001813)))/60)/60 + 0.00256*math.Cos(node))
	y := math.Pow(math.Tan(obliquity/2), 2)
	l := radians(longitude)
	equation = 4 * degrees(y*math.Sin(2*l)-2*eccentricity*math.Sin(anomaly)+
		4*eccentricity*y*math.Sin(anomaly)*math.Cos(2*l)-
		y*y/2*math.Sin(4*l)-1.25*eccentricity*eccentricity*math.Sin(2*anomaly))
	return math.Asin(math.Sin(obliquity) * math.Sin(apparent)), equation
}
