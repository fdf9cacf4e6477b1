with months as (
  select city, date_trunc('month', day)::date as first_day, sum(precipitation_mm) as precipitation_mm
  from daily
  group by all
),
rain as (
  select city, month(first_day) as month, avg(precipitation_mm) as precipitation_mm
  from months
  group by all
)
select
  daily.city,
  month(day) as month,
  strftime(any_value(day), '%b') as month_name,
  round(avg(high_c), 1) as high_c,
  round(avg(low_c), 1) as low_c,
  round(avg((high_c + low_c) / 2), 1) as mean_c,
  round(any_value(rain.precipitation_mm), 1) as precipitation_mm
from daily
join rain on rain.city = daily.city and rain.month = month(day)
group by daily.city, month(day)
order by city, month
