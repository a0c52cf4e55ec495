//! `Kafka::Admin`.

use std::time::{Duration, Instant};

use magnus::{
    Class, Error, Module, Object as _, RArray, RClass, RHash, RModule, Ruby, TryConvert, Value, method,
    value::ReprValue,
};
use swarm_kafka::admin::{self, Acl, Answer, Change, NewTopic, Resource};
use swarm_kafka::error::KafkaError;
use swarm_kafka::partitions::Partitions;

use super::handle::{Handle, new_wake, wait_for_end};
use super::token::{self, TakesTokens};
use super::told::partitions_of;
use super::{answer, convert};
use crate::gvl::{check_interrupts, without_gvl};

/// A close waits this long for the end of the handle's threads.
const GRACE: Duration = Duration::from_secs(5);

#[magnus::wrap(class = "SwarmNative::Kafka::Admin", free_immediately, size)]
pub struct Admin {
    handle: Handle<admin::Admin>,
    name: String,
}

impl TakesTokens for Admin {
    type Client = admin::Admin;

    fn handle(&self) -> &Handle<Self::Client> {
        &self.handle
    }
}

impl Admin {
    fn ask(
        ruby: &Ruby,
        this: &Self,
        timeout: f64,
        call: impl FnOnce(&admin::Admin, Duration) -> Result<Answer, KafkaError> + Send + 'static,
    ) -> Result<Value, Error> {
        let timeout = convert::duration(ruby, timeout)?;
        let answered = this.handle.ask(ruby, move |admin| call(admin, timeout))?;
        answer::value(ruby, answered)
    }

    fn create_topics(ruby: &Ruby, this: &Self, topics: RArray, only_try: bool, timeout: f64) -> Result<Value, Error> {
        let topics = list(topics, |topic| {
            let (name, partitions, replication, config) = TryConvert::try_convert(topic)?;
            let config = list(config, TryConvert::try_convert)?;
            Ok(NewTopic { name, partitions, replication, config })
        })?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.create_topics(&topics, only_try, timeout))
    }

    fn delete_topics(ruby: &Ruby, this: &Self, names: Vec<String>, timeout: f64) -> Result<Value, Error> {
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.delete_topics(&names, timeout))
    }

    fn create_partitions(
        ruby: &Ruby,
        this: &Self,
        totals: RArray,
        only_try: bool,
        timeout: f64,
    ) -> Result<Value, Error> {
        let totals: Vec<(String, usize)> = list(totals, TryConvert::try_convert)?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.create_partitions(&totals, only_try, timeout))
    }

    fn delete_records(ruby: &Ruby, this: &Self, before: RArray, timeout: f64) -> Result<Value, Error> {
        let before = partitions_of(ruby, before)?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.delete_records(&before, timeout))
    }

    fn topics(ruby: &Ruby, this: &Self, timeout: f64) -> Result<Value, Error> {
        Self::ask(ruby, this, timeout, |admin, timeout| admin.topics(timeout))
    }

    fn describe_topics(ruby: &Ruby, this: &Self, names: Vec<String>, timeout: f64) -> Result<Value, Error> {
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.describe_topics(&names, timeout))
    }

    fn cluster(ruby: &Ruby, this: &Self, timeout: f64) -> Result<Value, Error> {
        Self::ask(ruby, this, timeout, |admin, timeout| admin.cluster(timeout))
    }

    fn describe_configs(ruby: &Ruby, this: &Self, resources: RArray, timeout: f64) -> Result<Value, Error> {
        let resources = list(resources, |it| {
            let (kind, name) = TryConvert::try_convert(it)?;
            Ok(Resource { kind, name })
        })?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.describe_configs(&resources, timeout))
    }

    fn alter_configs(ruby: &Ruby, this: &Self, changes: RArray, only_try: bool, timeout: f64) -> Result<Value, Error> {
        let changes = list(changes, |it| {
            let (kind, name, changes): (i32, String, RArray) = TryConvert::try_convert(it)?;
            let changes = list(changes, |it| {
                let (name, operation, value) = TryConvert::try_convert(it)?;
                Ok(Change { name, operation, value })
            })?;
            Ok((Resource { kind, name }, changes))
        })?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.alter_configs(&changes, only_try, timeout))
    }

    fn groups(ruby: &Ruby, this: &Self, timeout: f64) -> Result<Value, Error> {
        Self::ask(ruby, this, timeout, |admin, timeout| admin.groups(timeout))
    }

    fn describe_groups(ruby: &Ruby, this: &Self, names: Vec<String>, timeout: f64) -> Result<Value, Error> {
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.describe_groups(&names, timeout))
    }

    fn delete_groups(ruby: &Ruby, this: &Self, names: Vec<String>, timeout: f64) -> Result<Value, Error> {
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.delete_groups(&names, timeout))
    }

    fn group_offsets(
        ruby: &Ruby,
        this: &Self,
        group: String,
        partitions: Option<RArray>,
        timeout: f64,
    ) -> Result<Value, Error> {
        let list: Option<Partitions> = partitions.map(|it| partitions_of(ruby, it)).transpose()?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.group_offsets(&group, list.as_ref(), timeout))
    }

    fn alter_group_offsets(
        ruby: &Ruby,
        this: &Self,
        group: String,
        offsets: RArray,
        timeout: f64,
    ) -> Result<Value, Error> {
        let list = partitions_of(ruby, offsets)?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.alter_group_offsets(&group, &list, timeout))
    }

    fn delete_group_offsets(
        ruby: &Ruby,
        this: &Self,
        group: String,
        partitions: RArray,
        timeout: f64,
    ) -> Result<Value, Error> {
        let list = partitions_of(ruby, partitions)?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.delete_group_offsets(&group, &list, timeout))
    }

    fn list_offsets(ruby: &Ruby, this: &Self, asked: RArray, committed: bool, timeout: f64) -> Result<Value, Error> {
        let list = partitions_of(ruby, asked)?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.list_offsets(&list, committed, timeout))
    }

    fn create_acls(ruby: &Ruby, this: &Self, acls: RArray, timeout: f64) -> Result<Value, Error> {
        let acls = list(acls, acl)?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.create_acls(&acls, timeout))
    }

    fn acls(ruby: &Ruby, this: &Self, filter: Value, timeout: f64) -> Result<Value, Error> {
        let filter = acl(filter)?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.acls(&filter, timeout))
    }

    fn delete_acls(ruby: &Ruby, this: &Self, filters: RArray, timeout: f64) -> Result<Value, Error> {
        let filters = list(filters, acl)?;
        Self::ask(ruby, this, timeout, move |admin, timeout| admin.delete_acls(&filters, timeout))
    }

    /// Waits until a token is wanted, for as long as the handle is open.
    fn wanted_token(ruby: &Ruby, this: &Self) -> Result<String, Error> {
        let wake = new_wake(ruby)?;
        loop {
            wake.clear();
            let visit = this.handle.enter_to_wait(ruby, &wake)?;
            let wanted = without_gvl(&wake, || visit.wait_for_token(&wake));
            drop(visit);
            if let Some(Some(config)) = wanted {
                return Ok(config);
            }
            check_interrupts(ruby)?;
        }
    }

    fn close(ruby: &Ruby, this: &Self) -> Result<(), Error> {
        this.handle.check_here(ruby)?;
        if let Ok(visit) = this.handle.door().enter() {
            visit.stop_waiting();
        }
        if let Some(ending) = this.handle.close(ruby, |_| ())? {
            wait_for_end(ruby, &ending, Some(Instant::now() + GRACE))?;
        }
        Ok(())
    }

    fn is_closed(ruby: &Ruby, this: &Self) -> Result<bool, Error> {
        this.handle.is_closed(ruby)
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.handle.abandon(admin::Admin::stop_waiting);
    }
}

fn list<T>(array: RArray, each: impl FnMut(Value) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    array.into_iter().map(each).collect()
}

/// resource, name, pattern, principal, host, operation, permission.
fn acl(given: Value) -> Result<Acl, Error> {
    let (resource, name, pattern, principal, host, operation, permission) = TryConvert::try_convert(given)?;
    Ok(Acl { resource, name, pattern, principal, host, operation, permission })
}

fn open(ruby: &Ruby, class: RClass, properties: RHash, made_at: String, tokens: bool) -> Result<Value, Error> {
    let config = super::config::config(ruby, properties)?;
    let handle = Handle::open(ruby, "SwarmNative::Kafka::Admin", made_at, move |lease| {
        admin::Admin::new(config, tokens, lease)
    })?;
    super::exit::remember_admin(handle.door());
    let name = handle.enter(ruby)?.name();
    Ok(ruby.obj_wrap_as(Admin { handle, name }, class).as_value())
}

/// Defines the class.
pub fn init(ruby: &Ruby, kafka: RModule) -> Result<(), Error> {
    let class = kafka.define_class("Admin", ruby.class_object())?;
    class.undef_default_alloc_func();
    crate::wrapped::look_up::<Admin>(ruby);
    class.define_singleton_method("native_open", method!(open, 3))?;
    class.define_private_method("native_create_topics", method!(Admin::create_topics, 3))?;
    class.define_private_method("native_delete_topics", method!(Admin::delete_topics, 2))?;
    class.define_private_method("native_create_partitions", method!(Admin::create_partitions, 3))?;
    class.define_private_method("native_delete_records", method!(Admin::delete_records, 2))?;
    class.define_private_method("native_topics", method!(Admin::topics, 1))?;
    class.define_private_method("native_describe_topics", method!(Admin::describe_topics, 2))?;
    class.define_private_method("native_cluster", method!(Admin::cluster, 1))?;
    class.define_private_method("native_describe_configs", method!(Admin::describe_configs, 2))?;
    class.define_private_method("native_alter_configs", method!(Admin::alter_configs, 3))?;
    class.define_private_method("native_groups", method!(Admin::groups, 1))?;
    class.define_private_method("native_describe_groups", method!(Admin::describe_groups, 2))?;
    class.define_private_method("native_delete_groups", method!(Admin::delete_groups, 2))?;
    class.define_private_method("native_group_offsets", method!(Admin::group_offsets, 3))?;
    class.define_private_method("native_alter_group_offsets", method!(Admin::alter_group_offsets, 3))?;
    class.define_private_method("native_delete_group_offsets", method!(Admin::delete_group_offsets, 3))?;
    class.define_private_method("native_list_offsets", method!(Admin::list_offsets, 3))?;
    class.define_private_method("native_create_acls", method!(Admin::create_acls, 2))?;
    class.define_private_method("native_acls", method!(Admin::acls, 2))?;
    class.define_private_method("native_delete_acls", method!(Admin::delete_acls, 2))?;
    class.define_private_method("native_wanted_token", method!(Admin::wanted_token, 0))?;
    class.define_private_method("native_set_token", method!(token::set::<Admin>, 4))?;
    class.define_private_method("native_refuse_token", method!(token::refuse::<Admin>, 1))?;
    class.define_private_method("native_close", method!(Admin::close, 0))?;
    class.define_method("closed?", method!(Admin::is_closed, 0))?;
    class.define_method("name", method!(Admin::name, 0))
}
