//! Access rules.

use std::ffi::c_int;
use std::time::Duration;

use super::{Admin, Answer, Objects, Options, c_string, make, parts, sys, text_of};
use crate::error::KafkaError;

/// A rule, or a filter of rules: in a filter a name that is none stands for any.
#[derive(Clone, Debug)]
pub struct Acl {
    /// `rd_kafka_ResourceType_t`.
    pub resource: i32,
    /// The resource's name.
    pub name: Option<String>,
    /// `rd_kafka_ResourcePatternType_t`.
    pub pattern: i32,
    /// Whom it is about.
    pub principal: Option<String>,
    /// From where.
    pub host: Option<String>,
    /// `rd_kafka_AclOperation_t`.
    pub operation: i32,
    /// `rd_kafka_AclPermissionType_t`.
    pub permission: i32,
}

type New = unsafe extern "C" fn(
    c_int,
    *const std::ffi::c_char,
    c_int,
    *const std::ffi::c_char,
    *const std::ffi::c_char,
    c_int,
    c_int,
    *mut std::ffi::c_char,
    usize,
) -> sys::Made;

impl Admin {
    /// In the order of the rules: true, or the failure.
    pub fn create_acls(&self, acls: &[Acl], timeout: Duration) -> Result<Answer, KafkaError> {
        let objects = objects(acls, sys::rd_kafka_AclBinding_new)?;
        let options = Options::new(self, sys::op::CREATE_ACLS, timeout)?;
        let answers = self.ask_about(
            &options,
            &objects,
            sys::rd_kafka_CreateAcls,
            sys::rd_kafka_event_CreateAcls_result,
            sys::rd_kafka_CreateAcls_result_acls,
            |result| {
                // SAFETY: the answer to this request consists of such results, each with an error of its own or none.
                let failed = unsafe { KafkaError::read(sys::rd_kafka_acl_result_error(result)) };
                failed.map_or(Answer::Flag(true), Answer::Failed)
            },
        )?;
        Ok(Answer::List(answers))
    }

    /// The rules that the filter lets through.
    pub fn acls(&self, filter: &Acl, timeout: Duration) -> Result<Answer, KafkaError> {
        let objects = objects(std::slice::from_ref(filter), sys::rd_kafka_AclBindingFilter_new)?;
        let options = Options::new(self, sys::op::DESCRIBE_ACLS, timeout)?;
        let event = self.ask(&options, |client, options, queue| {
            // SAFETY: client, filter, options and queue live.
            unsafe { sys::rd_kafka_DescribeAcls(client.as_ptr(), objects.last(), options.made, queue.as_ptr()) };
        })?;
        // SAFETY: the event lives and is this request's answer; its parts live as long.
        let found = unsafe {
            parts(sys::rd_kafka_event_DescribeAcls_result(event.as_ptr()), sys::rd_kafka_DescribeAcls_result_acls)
                .map(|acl| rule(acl))
                .collect()
        };
        Ok(Answer::List(found))
    }

    /// In the order of the filters: the rules that were deleted, or the failure.
    pub fn delete_acls(&self, filters: &[Acl], timeout: Duration) -> Result<Answer, KafkaError> {
        let objects = objects(filters, sys::rd_kafka_AclBindingFilter_new)?;
        let options = Options::new(self, sys::op::DELETE_ACLS, timeout)?;
        let answers = self.ask_about(
            &options,
            &objects,
            sys::rd_kafka_DeleteAcls,
            sys::rd_kafka_event_DeleteAcls_result,
            sys::rd_kafka_DeleteAcls_result_responses,
            |response| {
                // SAFETY: the answer to this request consists of responses, which live as long as their event.
                unsafe {
                    match KafkaError::read(sys::rd_kafka_DeleteAcls_result_response_error(response)) {
                        Some(failed) => Answer::Failed(failed),
                        None => Answer::List(
                            parts(response, sys::rd_kafka_DeleteAcls_result_response_matching_acls)
                                .map(|acl| rule(acl))
                                .collect(),
                        ),
                    }
                }
            },
        )?;
        Ok(Answer::List(answers))
    }
}

fn objects(acls: &[Acl], new: New) -> Result<Objects, KafkaError> {
    let mut objects = Objects::new(sys::rd_kafka_AclBinding_destroy);
    for acl in acls {
        let text = |what, given: &Option<String>| given.as_deref().map(|given| c_string(what, given)).transpose();
        let name = text("the name", &acl.name)?;
        let principal = text("the principal", &acl.principal)?;
        let host = text("the host", &acl.host)?;
        let pointer = |text: &Option<std::ffi::CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        // SAFETY: the texts are null or end in NUL, and are copied; the object that comes out is ours.
        objects.push(make(|reason, size| unsafe {
            new(
                acl.resource,
                pointer(&name),
                acl.pattern,
                pointer(&principal),
                pointer(&host),
                acl.operation,
                acl.permission,
                reason,
                size,
            )
        })?);
    }
    Ok(objects)
}

/// # Safety
/// `acl` is a rule of an answer that lives.
unsafe fn rule(acl: sys::Part) -> Answer {
    // SAFETY: the caller's promise; the texts are copied.
    unsafe {
        Answer::Fields(vec![
            ("resource", Answer::Number(sys::rd_kafka_AclBinding_restype(acl).into())),
            ("name", text_of(acl, sys::rd_kafka_AclBinding_name)),
            ("pattern", Answer::Number(sys::rd_kafka_AclBinding_resource_pattern_type(acl).into())),
            ("principal", text_of(acl, sys::rd_kafka_AclBinding_principal)),
            ("host", text_of(acl, sys::rd_kafka_AclBinding_host)),
            ("operation", Answer::Number(sys::rd_kafka_AclBinding_operation(acl).into())),
            ("permission", Answer::Number(sys::rd_kafka_AclBinding_permission_type(acl).into())),
        ])
    }
}
