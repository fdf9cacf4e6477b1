select city, 'hottest' as record, max_by(day, high_c) as day, max(high_c) as value, '°C' as unit from daily group by city
union all
select city, 'coldest', min_by(day, low_c), min(low_c), '°C' from daily group by city
union all
select city, 'wettest', max_by(day, precipitation_mm), max(precipitation_mm), 'mm' from daily group by city
union all
select city, 'windiest', max_by(day, wind_ms), max(wind_ms), 'm/s' from daily group by city
order by record, city
