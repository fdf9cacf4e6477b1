with years as (
  select
    city,
    year(day) as year,
    sum(precipitation_mm) as precipitation_mm,
    count(*) filter (where precipitation_mm >= $wet_mm) as wet_days,
    max(high_c) as hottest_c,
    min(low_c) as coldest_c
  from daily
  group by all
)
select
  *,
  precipitation_mm - lag(precipitation_mm) over (partition by city order by year) as change_mm
from years
order by city, year
