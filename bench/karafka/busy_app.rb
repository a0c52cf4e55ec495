# frozen_string_literal: true

# The application of the benchmark: a light topic and a busy one, in two subscription groups of one process. It says
# after so many seconds what it has done of both, and how long light messages took from producing to consuming; or, with
# APP_COUNT, how many light ones it has done a second once it has done so many.
$stdout.sync = true
gem "karafka", *ENV["APP_KARAFKA"]
require "karafka"
require "swarm_native/karafka" unless ENV["APP_PLAIN"]

def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

COUNT = ENV["APP_COUNT"]&.to_i
SECONDS = Float(ENV.fetch("APP_SECONDS"))
DONE = Hash.new(0)
TIMES = []

class Light < Karafka::BaseConsumer
  def consume
    # The other group may take a while to join, and the light messages are soon at an end.
    sleep 0.01 until ENV["APP_IDLE"] || DONE[:busy].positive?
    DONE[:begun] = now if DONE[:light].zero?
    DONE[:light] += messages.size
    DONE[:done] = now if COUNT && DONE[:light] >= COUNT
    return unless ENV["APP_TIMES"]

    # What waited before is old.
    produced = Float(messages.first.raw_payload)
    TIMES << (now - produced) if produced > DONE[:begun]
  end
end

class Busy < Karafka::BaseConsumer
  def consume
    messages.each do
      due = now + 0.05
      DONE[:work] += 1 while now < due
      DONE[:busy] += 1
    end
  end
end

class App < Karafka::App
  setup do |config|
    config.kafka = { "bootstrap.servers": ENV.fetch("APP_SERVERS"), "auto.offset.reset": "earliest" }
    config.client_id = "bench"
    config.concurrency = 2
    # A batch is not to wait for more messages where the time of single ones is measured.
    config.max_wait_time = 10 if ENV["APP_TIMES"]
    config.shutdown_timeout = 5_000
    config.respond_to?(:group_id=) ? config.group_id = ENV.fetch("APP_GROUP") : nil
    config.logger = Logger.new(File::NULL)
  end
  routes.draw do
    subscription_group("light") { topic(ENV.fetch("APP_LIGHT")) { consumer Light } }
    unless ENV["APP_IDLE"]
      subscription_group("busy") do
        topic(ENV.fetch("APP_BUSY")) do
          consumer Busy
          max_messages 10
        end
      end
    end
  end
end

def tell(*figures)
  $stdout.syswrite("rates #{figures.join(" ")}\n")
  Process.kill(:KILL, Process.pid)
end

Thread.new do
  if COUNT
    sleep 0.01 until DONE.key?(:done)
    tell((DONE[:light] / (DONE[:done] - DONE[:begun])).round(1))
  end
  # Both have begun.
  sleep 0.01 until DONE[:light].positive? && (ENV["APP_IDLE"] || DONE[:busy].positive?)
  before = DONE.dup
  from = now
  sleep SECONDS
  after = DONE.dup
  time = now - from
  rates = %i[light busy work].map { |what| ((after[what] - before[what]) / time).round(1) }
  sorted = TIMES.drop(5).sort
  times = [50, 99].map { |percent| ((sorted[(sorted.size - 1) * percent / 100] || 0) * 1000).round(2) }
  tell(*rates, *times, after[:light])
end

ENV["KARAFKA_BOOT_FILE"] = "false"
ARGV.replace(["server"])
Karafka::Cli.start
