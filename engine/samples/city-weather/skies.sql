select city, month(day) as month, strftime(day, '%b') as month_name, sky, count(*) as days
from daily
group by all
