-- Gaps and islands: within a spell, the day minus its rank among the wet days stays the same.
with wet as (
  select city, day, precipitation_mm, day - (row_number() over (partition by city order by day))::integer as spell
  from daily
  where precipitation_mm >= $wet_mm
)
select
  city,
  min(day) as first_day,
  max(day) as last_day,
  count(*) as days,
  sum(precipitation_mm) as precipitation_mm
from wet
group by city, spell
having count(*) >= 2
order by days desc, precipitation_mm desc
