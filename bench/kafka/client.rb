# frozen_string_literal: true

# One measurement in a process of its own:
#
#   client.rb LIBRARY WHAT SERVERS TOPIC COUNT [busy]
#
# It prints a line of JSON: seconds, cpu, objects (per run), and samples where WHAT is a latency. With `busy` a Ruby
# thread burns CPU beside it.

require "json"

library, what, servers, topic, count, busy = ARGV
count = count.to_i
PAYLOAD = ("x" * 100).freeze

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
def cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)

# Seconds that each call takes, without the first ones, which wait for connections.
def latencies(count, first = 20)
  all = Array.new(first + count) do
    start = now
    yield
    now - start
  end
  all.drop(first)
end

# Messages that come after the first one are measured.
class Meter
  attr_reader :seen

  def initialize(count)
    @count = count
    @seen = 0
  end

  def take(payload)
    begin_now if @seen.zero?
    raise "wrong payload" unless payload.bytesize == 100

    @seen += 1
  end

  def begin_now
    @start, @cpu, @objects = now, cpu, GC.stat(:total_allocated_objects)
  end

  # Whatever is slow is slow enough to be seen in five seconds.
  def full? = @seen >= @count || (@start && @seen.positive? && now - @start > 5)

  def finish
    { seconds: now - @start, cpu: cpu - @cpu, objects: GC.stat(:total_allocated_objects) - @objects,
      count: @seen.zero? ? @count : @seen }
  end
end

# Ours.
class Ours
  def initialize(servers)
    require "swarm_native"
    SwarmNative.logger = nil
    @servers = { "bootstrap.servers": servers }
  end

  def consumer(topic)
    SwarmNative::Kafka::Consumer.new(@servers, "group.id": "ours-#{Process.pid}", "auto.offset.reset": "earliest")
                                .subscribe(topic)
  end

  def poll_batch(topic, meter)
    consumer = consumer(topic)
    consumer.poll_batch(1000, 1.0).payloads.each { |payload| meter.take(payload) } until meter.full?
    meter.finish.tap { consumer.close }
  end

  def poll(topic, meter)
    consumer = consumer(topic)
    until meter.full?
      message = consumer.poll(1.0)
      meter.take(message.payload) if message
    end
    meter.finish.tap { consumer.close }
  end

  # The runtime: five workers, offsets stored and committed.
  def processor(topic, meter)
    config = { **@servers, "group.id": "processor-#{Process.pid}", "auto.offset.reset": "earliest" }
    processor = SwarmNative::Kafka::Processor.new(config: config, topics: topic)
    lock = Mutex.new
    processor.run do |batch|
      payloads = batch.payloads
      lock.synchronize { payloads.each { |payload| meter.take(payload) } }
      processor.stop if meter.full?
    end
    meter.finish
  end

  def produce(topic, meter, count)
    producer = SwarmNative::Kafka::Producer.new(@servers)
    meter.begin_now
    deliveries = Array.new(count) { producer.produce(topic: topic, payload: PAYLOAD) }
    deliveries.each(&:wait)
    meter.finish.tap { producer.close }
  end

  def produce_many(topic, meter, count)
    producer = SwarmNative::Kafka::Producer.new(@servers)
    messages = Array.new(1000) { { topic: topic, payload: PAYLOAD } }
    meter.begin_now
    all = Array.new(count / 1000) { producer.produce_many(messages) }
    all.each(&:wait)
    meter.finish.tap { producer.close }
  end

  def acknowledged(topic, count)
    producer = SwarmNative::Kafka::Producer.new(@servers, "linger.ms": 0)
    latencies(count) { producer.produce(topic: topic, payload: PAYLOAD).wait }.tap { producer.close }
  end

  # From the call of produce to the message in the hands of a consumer that waits for it.
  def delivered(topic, count)
    producer = SwarmNative::Kafka::Producer.new(@servers, "linger.ms": 0)
    # Others' messages are none of its own.
    topic += "-#{Process.pid}"
    producer.produce(topic: topic, payload: PAYLOAD).wait
    consumer = consumer(topic)
    latencies(count) do
      producer.produce(topic: topic, payload: PAYLOAD)
      nil until consumer.poll(1.0)
    end.tap { [consumer, producer].each(&:close) }
  end
end

# Newer versions have no keyword in seconds, older ones none in milliseconds.
def patience
  keywords = Rdkafka::AbstractHandle.instance_method(:wait).parameters.map(&:last)
  keywords.include?(:max_wait_timeout_ms) ? { max_wait_timeout_ms: 60_000 } : { max_wait_timeout: 60 }
end

# karafka-rdkafka, and WaterDrop on top of it.
class Theirs
  def initialize(servers)
    require "rdkafka"
    @servers = { "bootstrap.servers": servers }
  end

  def consumer(topic)
    Rdkafka::Config.new(**@servers, "group.id": "theirs-#{Process.pid}", "auto.offset.reset": "earliest").consumer
                   .tap { |consumer| consumer.subscribe(topic) }
  end

  def poll(topic, meter) = poll_by(topic, meter, :poll, 1000)
  def poll_nb(topic, meter) = poll_by(topic, meter, :poll_nb, 1000)

  def poll_batch(topic, meter)
    consumer = consumer(topic)
    consumer.poll_batch(1000, max_items: 100).each { |message| meter.take(message.payload) } until meter.full?
    meter.finish.tap { consumer.close }
  end

  def produce(topic, meter, count)
    producer = Rdkafka::Config.new(**@servers, "queue.buffering.max.messages": 1_000_000).producer
    meter.begin_now
    handles = Array.new(count) { producer.produce(topic: topic, payload: PAYLOAD) }
    handles.each { |handle| handle.wait(**patience) }
    meter.finish.tap { producer.close }
  end

  def produce_many(topic, meter, count)
    require "waterdrop"
    producer = WaterDrop::Producer.new { |config| config.kafka = { **@servers, "queue.buffering.max.messages": 1_000_000 } }
    messages = Array.new(1000) { { topic: topic, payload: PAYLOAD } }
    meter.begin_now
    all = Array.new(count / 1000) { producer.produce_many_async(messages) }
    all.each { |handles| handles.each { |handle| handle.wait(**patience) } }
    meter.finish.tap { producer.close }
  end

  def acknowledged(topic, count)
    producer = Rdkafka::Config.new(**@servers, "linger.ms": 0).producer
    latencies(count) { producer.produce(topic: topic, payload: PAYLOAD).wait(**patience) }.tap { producer.close }
  end

  def delivered(topic, count)
    producer = Rdkafka::Config.new(**@servers, "linger.ms": 0).producer
    topic += "-#{Process.pid}"
    # A consumer raises at a topic that is not there yet.
    producer.produce(topic: topic, payload: PAYLOAD).wait(**patience)
    consumer = consumer(topic)
    latencies(count) do
      producer.produce(topic: topic, payload: PAYLOAD)
      nil until consumer.poll(1000)
    end.tap { [consumer, producer].each(&:close) }
  end

  private

  def poll_by(topic, meter, method, timeout)
    consumer = consumer(topic)
    until meter.full?
      message = consumer.public_send(method, timeout)
      meter.take(message.payload) if message
    end
    meter.finish.tap { consumer.close }
  end
end

client = (library == "ours" ? Ours : Theirs).new(servers)
unless client.respond_to?(what) && (what != "poll_nb" || Rdkafka::Consumer.method_defined?(:poll_nb)) &&
       (library == "ours" || what != "poll_batch" || Rdkafka::Consumer.method_defined?(:poll_batch))
  puts JSON.generate(nil)
  exit
end
Thread.new { loop {} } if busy
meter = Meter.new(count)
result = case what
         when "acknowledged", "delivered" then { samples: client.public_send(what, topic, count) }
         when /produce/ then client.public_send(what, topic, meter, count)
         else client.public_send(what, topic, meter)
         end
puts JSON.generate(result)
$stdout.flush
exit!(0)
