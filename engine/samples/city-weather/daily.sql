-- The station's file, typed and named for people.
select
  location as city,
  date::date as day,
  precipitation::decimal(6, 1) as precipitation_mm,
  temp_max::decimal(4, 1) as high_c,
  temp_min::decimal(4, 1) as low_c,
  wind::decimal(4, 1) as wind_ms,
  weather as sky
from source.weather
